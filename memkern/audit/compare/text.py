"""The parts of a comparison as lines of text for a terminal: columns aligned, at most about 110 characters wide.

Each function gives the lines of one part, the first of them empty, or none where there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from memkern.audit.compare.records import Agreement, Difference, LayerDifference, UnitChange

HEAD = ("layer", "A", "B", "B - A", "interval", "p (Holm)", "d")


def about(run: Mapping[str, str | None]) -> str:
    """Names an audit: its folder, encoder and reference."""
    parts = [_printable(run["folder"] or "?"), _printable(run["encoder"] or "?")]
    return "  ".join([*parts, f"reference {_printable(run['reference'])}" if run["reference"] else "no reference"])


def sslmem(difference: Difference | None, images: Agreement | None) -> list[str]:
    """Tells how SSLMem and the ranking of the images differ."""
    if difference is None or images is None:
        return []
    shared = f"{_percent(images.overlap)} of the top {images.k} in both (chance {_percent(images.chance)})"
    ranking = f"  ranking of the images: tau {_number(images.tau, '+.2f')}; {shared}"
    return ["", "SSLMem", *_table(HEAD, [["output", *_cells(difference)]]), ranking]


def layermem(layers: Sequence[LayerDifference]) -> list[str]:
    """Tells how LayerMem and the ranking of the images differ at each layer."""
    rows, k = [], None
    for layer in layers:
        if layer.layermem is None or layer.images is None:
            continue
        k = layer.images.k
        tail = [_number(layer.images.tau, "+.2f"), _percent(layer.images.overlap)]
        rows.append([layer.name, *_cells(layer.layermem), *tail])
    return ["", "LayerMem", *_table([*HEAD, "tau", f"top {k}"], rows)] if rows else []


def unitmem(layers: Sequence[LayerDifference]) -> list[str]:
    """Tells how the mean UnitMem and the ranking of the units differ at each layer."""
    if not layers:
        return []
    rows = [
        [layer.name, *_cells(layer.unitmem), _number(layer.units.tau if layer.units else math.nan, "+.2f")]
        for layer in layers
    ]
    return ["", "mean UnitMem", *_table([*HEAD, "tau"], rows)]


def changed_units(changes: Sequence[UnitChange]) -> list[str]:
    """Tells which units changed most."""
    if not changes:
        return []
    rows = [
        [change.layer, str(change.unit), f"{change.a:.3f}", f"{change.b:.3f}", f"{change.b - change.a:+.3f}",
         _short(change.peak_a), _short(change.peak_b)]
        for change in changes
    ]  # fmt: skip
    head = ["layer", "unit", "A", "B", "B - A", "peak in A", "peak in B"]
    return ["", "units that changed most", *_table(head, rows, left=(0, 5, 6))]


def names(title: str, layers: Sequence[str]) -> list[str]:
    """Lists names of layers."""
    return ["", f"{title}: {', '.join(_printable(name) for name in layers)}"] if layers else []


def notes(sentences: Sequence[str]) -> list[str]:
    """Lists what to keep in mind."""
    return ["", *(f"note: {sentence}" for sentence in sentences)] if sentences else []


def _cells(row: Difference) -> list[str]:
    return [
        _number(row.a, ".4f"),
        _number(row.b, ".4f"),
        _number(row.difference, "+.4f"),
        f"[{_number(row.low, '+.4f')}, {_number(row.high, '+.4f')}]",
        _number(row.p_holm, ".2g"),
        _number(row.d, "+.2f"),
    ]


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _printable(value: str) -> str:
    """Replaces control and direction characters, with which a file name could repaint the terminal."""
    return "".join(char if char.isprintable() else "?" for char in value)


def _short(value: str, width: int = 24) -> str:
    value = _printable(value)
    return value if len(value) <= width else "…" + value[1 - width :]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    cells = [list(head), *([_short(row[0], 32), *row[1:]] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  " + "  ".join(
            value.ljust(width) if column in left else value.rjust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]  # fmt: skip
