"""A comparison as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memkern.audit.compare.comparison import Comparison, Difference


def text(comparison: Comparison) -> str:
    """The comparison as lines of text, columns aligned, at most about 110 characters wide.

    Args:
        comparison: The comparison.

    Returns:
        The text, without a newline at its end.
    """
    lines = [
        f"A  {_about(comparison.run_a)}",
        f"B  {_about(comparison.run_b)}",
        f"{comparison.n_images} images scored; tests: B {comparison.alternative} than A; "
        f"intervals: {comparison.level:.0%} bootstrap, {comparison.resamples} resamples, seed {comparison.seed}",
    ]
    if comparison.sslmem is not None and comparison.images is not None:
        agree = comparison.images
        lines += ["", "SSLMem", *_table(HEAD, [["output", *_cells(comparison.sslmem)]])]
        shared = f"{_percent(agree.overlap)} of the top {agree.k} in both (chance {_percent(agree.chance)})"
        lines.append(f"  ranking of the images: tau {_number(agree.tau, '+.2f')}; {shared}")
    layered = [layer for layer in comparison.layers if layer.layermem is not None]
    if layered:
        rows = []
        for layer in layered:
            assert layer.layermem is not None
            assert layer.images is not None
            tail = [_number(layer.images.tau, "+.2f"), _percent(layer.images.overlap)]
            rows.append([layer.name, *_cells(layer.layermem), *tail])
        lines += [
            "",
            "LayerMem",
            *_table([*HEAD, "tau", f"top {layered[0].images.k if layered[0].images else ''}"], rows),
        ]
    if comparison.layers:
        rows = [
            [layer.name, *_cells(layer.unitmem), _number(layer.units.tau if layer.units else math.nan, "+.2f")]
            for layer in comparison.layers
        ]
        lines += ["", "mean UnitMem", *_table([*HEAD, "tau"], rows)]
    if comparison.changed:
        rows = [
            [change.layer, str(change.unit), f"{change.a:.3f}", f"{change.b:.3f}", f"{change.b - change.a:+.3f}",
             _short(change.peak_a), _short(change.peak_b)]
            for change in comparison.changed
        ]  # fmt: skip
        head = ["layer", "unit", "A", "B", "B - A", "peak in A", "peak in B"]
        lines += ["", "units that changed most", *_table(head, rows, left=(0, 5, 6))]
    for title, names in (("only in A", comparison.only_a), ("only in B", comparison.only_b)):
        if names:
            lines += ["", f"{title}: {', '.join(_printable(name) for name in names)}"]
    return "\n".join([*lines, *(["", *(f"note: {note}" for note in comparison.notes)] if comparison.notes else [])])


HEAD = ["layer", "A", "B", "B - A", "interval", "p (Holm)", "d"]


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


def _about(run: dict[str, str | None]) -> str:
    parts = [_printable(run["folder"] or "?"), _printable(run["encoder"] or "?")]
    return "  ".join([*parts, f"reference {_printable(run['reference'])}" if run["reference"] else "no reference"])


def _printable(value: str) -> str:
    """Without control and direction characters, with which a file name could repaint the terminal."""
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
