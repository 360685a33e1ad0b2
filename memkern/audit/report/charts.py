"""The report's charts. Each takes plain numbers and gives inline SVG; those with labels come in two widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkern.audit.report.svg import Board, Scale, number, tick_text, ticks
from memkern.audit.report.text import clean

Floats = NDArray[np.float64]

WIDE, NARROW = 820, 360
"""A desktop column and a phone, CSS pixels: text keeps its size on both, so charts are drawn once for each."""


def both_widths(draw: Callable[[int], str]) -> str:
    """Draws a chart `WIDE` and `NARROW`, one after the other; the style sheet shows one of them."""
    return f"{draw(WIDE)}{draw(NARROW)}"


def evenly_spaced(count: int, most: int) -> list[int]:
    """Chooses at most `most` of `count` positions, evenly spaced, the last one among them.

    Args:
        count: How many positions there are.
        most: How many are chosen at most.

    Returns:
        The positions, in ascending order.

    Example:
        >>> evenly_spaced(10, 4), evenly_spaced(3, 4)
        ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def left_margin(names: Sequence[str], most: float, more: float = 0.0) -> float:
    """Computes the room for the longest name, left of a chart."""
    return min(most, 16 + more + 7.2 * max(map(len, names), default=0))


@dataclass(frozen=True)
class Compared:
    """LayerMem that the chart of the layers sets the scored images against.

    Attributes:
        name: What it is of: "control", or "other images".
        values: LayerMem of these images, `[L]`.
    """

    name: str
    values: Floats


def layers(
    names: Sequence[str],
    layermem: Floats,
    delta: Floats,
    *,
    width: int,
    against: Compared | None = None,
    band: tuple[Floats, Floats] | None = None,
) -> str:
    """Draws one row a layer: LayerMem as marks, what the layer adds to the one before it as a bar.

    Args:
        names: The layers, in forward order.
        layermem: LayerMem of the scored images, `[L]`.
        delta: What each adds, `[L]`; NaN in the first row.
        width: `WIDE` or `NARROW`.
        against: LayerMem of the control, or of other images.
        band: Lower and upper ends of LayerMem's 95 % interval, `[L]` each; NaN where there is none.

    Returns:
        SVG.
    """
    narrow = width == NARROW
    row, top = (20, 44) if narrow else (22, 44)
    left = left_margin(names, 122 if narrow else 190)
    middle = left + (width - left) * 0.58
    best = int(np.nanargmax(delta)) if np.isfinite(delta).any() else -1
    label = f"LayerMem of {len(names)} layers in forward order"
    if best >= 0:
        label += f"; layer {names[best]} adds most, {delta[best]:+.3f}"
    board = Board(width, top + row * len(names) + 26, label, "narrow" if narrow else "wide")
    drawn = [layermem, *([] if against is None else [against.values]), *(band or ())]
    x = _padded(np.concatenate(drawn), left + 8, middle - 14)
    dx = _padded(delta, middle + 10, width - 10)
    bottom = top + row * len(names)
    for scale, title in ((x, "LayerMem"), (dx, "Δ to the layer before")):
        board.text(scale.start, 14, title if not narrow or scale is x else "Δ", "head")
        for tick in ticks(scale.low, scale.high, 2 if narrow else 4):
            board.line(scale(tick), top - 6, scale(tick), bottom, "zero" if tick == 0 else "grid")
            board.text(scale(tick), top - 12, tick_text(tick), "tick", "middle")
    for place, name in enumerate(names):
        y = top + row * (place + 0.5)
        if place % 2:
            board.rect(0, y - row / 2, width, row, "stripe")
        board.text(left - 4, y + 4, clean(name, 18 if narrow else 27), "name", "end")
        if band is not None and math.isfinite(band[0][place]):
            low, high = (float(end[place]) for end in band)
            tip = f"{name}: 95% interval {low:+.4f} to {high:+.4f}"
            board.rect(x(low), y - 3.5, max(x(high) - x(low), 1), 7, "interval", tip=tip)
        if against is not None and math.isfinite(against.values[place]):
            tip = f"{name}: {against.name} {against.values[place]:+.4f}"
            board.mark(x(against.values[place]), y, "diamond", "others", tip)
        if math.isfinite(layermem[place]):
            board.mark(x(layermem[place]), y, "disc", "scored", f"{name}: LayerMem {layermem[place]:+.4f}")
        if math.isfinite(delta[place]):
            a, b = sorted((dx(0.0), dx(delta[place])))
            kind = "best" if place == best else "up" if delta[place] >= 0 else "down"
            board.rect(a, y - 5, max(b - a, 1), 10, kind, tip=f"{name}: Δ {delta[place]:+.4f}")
    for values, kind in ((layermem, "trace"), (None if against is None else against.values, "trace control")):
        points = [] if values is None else [(x(v), top + row * (i + 0.5)) for i, v in enumerate(values) if v == v]
        if points:
            board.path("M" + "L".join(f"{number(a)} {number(b)}" for a, b in points), kind)
    _legend(board, x.start, bottom + 17, against, band)
    return board.svg()


def _padded(values: Floats, start: float, end: float) -> Scale:
    """Scale of finite values and 0, with a little room at both ends."""
    shown = _finite([0.0, *values])
    pad = 0.06 * (max(shown) - min(shown) or 1.0)
    return Scale(min(shown) - pad, max(shown) + pad, start, end)


def _legend(board: Board, at: float, y: float, against: Compared | None, band: object) -> None:
    marks = [("disc", "scored", "scored images")] + ([] if against is None else [("diamond", "others", against.name)])
    for shape, kind, text in marks:
        board.mark(at + 4, y, shape, kind)
        board.text(at + 13, y + 4, text, "tick")
        at += 24 + 6.4 * len(text)
    if band is not None:
        board.rect(at, y - 3.5, 18, 7, "interval")
        board.text(at + 23, y + 4, "95%", "tick")


def histogram(name: str, unitmem: Floats, classmem: Floats | None, *, bins: int = 20) -> str:
    """Draws UnitMem of a layer's units as bars, ClassMem as an outline.

    Args:
        name: The layer.
        unitmem: `[U]`; NaN is left out, values outside of [0, 1] stand in the outer bins.
        classmem: `[U]`, or `None`.
        bins: How many bins.

    Returns:
        SVG.
    """
    width, height, left, right, bottom = 216, 122, 6, 6, 100
    units = unitmem[~np.isnan(unitmem)]
    classes = None if classmem is None else classmem[~np.isnan(classmem)]
    mean = float(units.mean()) if len(units) else math.nan
    label = f"Layer {name}: UnitMem of {len(units)} units, mean {mean:.2f}"
    if classes is not None and len(classes):
        label += f"; mean ClassMem {classes.mean():.2f}"
    board = Board(width, height, label, "small")
    edges = np.linspace(0, 1, bins + 1)
    counts = [np.histogram(values.clip(0, 1), edges)[0] for values in (units, classes) if values is not None]
    most = max(1, *(int(count.max()) for count in counts))
    x, y = Scale(0, 1, left, width - right), Scale(0, most, bottom, 24)
    board.text(left, 14, clean(name, 20), "name")
    board.text(width - right, 14, f"{len(units)} units", "tick", "end")
    step = (width - left - right) / bins
    bars = "".join(
        f"M{number(x(edges[i]) + 0.5)} {bottom}V{number(y(int(n)))}h{number(step - 1)}V{bottom}Z"
        for i, n in enumerate(counts[0])
        if n
    )
    board.path(bars or "M0 0", "unitmem")
    if len(counts) > 1:
        outline = f"M{left} {bottom}" + "".join(
            f"V{number(y(int(n)))}H{number(x(edges[i + 1]))}" for i, n in enumerate(counts[1])
        )
        board.path(outline + f"V{bottom}", "classmem")
    board.line(left, bottom, width - right, bottom, "axis")
    if len(units):
        board.path(f"M{number(x(mean))} {bottom}l-4 7h8Z", "mean")
    for tick in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[tick]
        board.text(x(tick), bottom + 18, tick_text(tick), "tick", anchor)
    return board.svg()


def scatter(name: str, score: Floats, unitmem: Floats, tau: float, *, low: float, high: float) -> str:
    """Draws UnitMem of each unit against SSLMem of the image at its peak.

    Args:
        name: The layer.
        score: SSLMem of the image that holds each unit's peak, `[P]`.
        unitmem: `[P]`, without NaN.
        tau: Kendall's tau-b of the two.
        low: Left end of the axis, the same for all layers.
        high: Right end.

    Returns:
        SVG.
    """
    width, height, left, bottom = 216, 176, 30, 142
    board = Board(
        width, height, f"Layer {name}: UnitMem against SSLMem of the peak image, Kendall tau {tau:+.2f}", "small"
    )
    x, y = Scale(low, high, left, width - 8), Scale(0, 1, bottom, 28)
    board.text(left, 14, clean(name, 16), "name")
    board.text(width - 8, 14, f"τ {tau:+.2f}".replace("-", "−") if math.isfinite(tau) else "τ –", "tick", "end")
    for tick in (0.0, 0.5, 1.0):
        board.line(left, y(tick), width - 8, y(tick), "grid")
        board.text(left - 4, y(tick) + 4, tick_text(tick), "tick", "end")
    for tick in ticks(low, high, 3):
        board.line(x(tick), 28, x(tick), bottom, "zero" if tick == 0 else "grid")
        board.text(x(tick), bottom + 14, tick_text(tick), "tick", "middle")
    board.dots([(x(a), y(b)) for a, b in zip(score, unitmem, strict=True)], "scored")
    board.text((left + width) / 2, height - 4, "SSLMem of the peak image", "tick", "middle")
    return board.svg()


def distribution(scored: Floats, others: Floats | None, names: tuple[str, str], *, width: int) -> str:
    """Draws how SSLMem is spread over the scored images and the others, as shares of each group.

    Args:
        scored: `[N]`.
        others: `[M]`, or `None`.
        names: What to call them.
        width: `WIDE` or `NARROW`.

    Returns:
        SVG.
    """
    narrow = width == NARROW
    height, left, bottom, bins = 200, 34, 164, 20 if narrow else 40
    groups = [scored[~np.isnan(scored)]] + ([] if others is None else [others[~np.isnan(others)]])
    everything = np.concatenate(groups)
    low, high = float(everything.min(initial=0.0)), float(everything.max(initial=0.0))
    label = f"SSLMem of {len(groups[0])} {names[0]}, mean {groups[0].mean() if len(groups[0]) else math.nan:+.3f}"
    if others is not None:
        label += f", and of {len(groups[1])} {names[1]}, mean {groups[1].mean() if len(groups[1]) else math.nan:+.3f}"
    board = Board(width, height, label, "narrow" if narrow else "wide")
    pad = 0.02 * (high - low or 1.0)
    edges = np.linspace(low - pad, high + pad, bins + 1)
    shares = [np.histogram(values, edges)[0] / max(1, len(values)) for values in groups]
    most = max(float(share.max()) for share in shares) or 1.0
    x, y = Scale(edges[0], edges[-1], left, width - 8), Scale(0, most, bottom, 30)
    for tick in ticks(0, most, 3):
        board.line(left, y(tick), width - 8, y(tick), "grid")
        board.text(left - 4, y(tick) + 4, f"{100 * tick:.3g}%", "tick", "end")
    for tick in ticks(edges[0], edges[-1], 4 if narrow else 8):
        board.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        board.text(x(tick), bottom + 17, tick_text(tick), "tick", "middle")
    step = (width - 8 - left) / bins
    bars = "".join(
        f"M{number(x(edges[i]) + 0.5)} {bottom}V{number(y(n))}h{number(step - 1)}V{bottom}Z"
        for i, n in enumerate(shares[0])
        if n
    )
    board.path(bars or "M0 0", "unitmem")
    if len(shares) > 1:
        outline = "".join(f"V{number(y(n))}H{number(x(edges[i + 1]))}" for i, n in enumerate(shares[1]))
        board.path(f"M{left} {bottom}{outline}V{bottom}", "classmem")
    board.line(x(0.0), 24, x(0.0), bottom, "zero")
    board.line(left, bottom, width - 8, bottom, "axis")
    board.rect(left, 6, 11, 11, "unitmem")
    board.text(left + 16, 16, names[0], "tick")
    if others is not None:
        at = left + 34 + 6.6 * len(names[0])
        board.line(at, 12, at + 13, 12, "classmem")
        board.text(at + 18, 16, names[1], "tick")
    board.text(width - 8, height - 4, "SSLMem = A_g − A_f", "tick", "end")
    return board.svg()


def matrix(names: Sequence[str], overlap: Floats, tau: Floats, k: int, *, width: int) -> str:
    """Draws how alike layers rank the images: overlap of the top k below the diagonal, Kendall's tau above it.

    Args:
        names: The layers.
        overlap: `[L, L]`, shares.
        tau: `[L, L]`.
        k: How many of the highest images.
        width: `WIDE` or `NARROW`; the narrow one has no numbers in its cells.

    Returns:
        SVG.
    """
    narrow, count = width == NARROW, len(names)
    left = left_margin(names, 122 if narrow else 190, 24)
    cell = min(40.0, (width - left - 8) / max(count, 1))
    numbers = cell >= 24
    top = 26
    height = top + cell * count + 8
    board = Board(
        width, height,
        f"Between {count} layers: overlap of the top {k} images below the diagonal, Kendall tau above",
        "narrow" if narrow else "wide",
    )  # fmt: skip
    board.text(left, 14, "above: Kendall τ · below: top overlap", "tick")
    for row in range(count):
        y = top + cell * row
        board.text(left - 26, y + cell / 2 + 4, clean(names[row], 14 if narrow else 24), "name", "end")
        board.text(left - 6, y + cell / 2 + 4, str(row + 1), "tick", "end")
        for column in range(count):
            value = float(overlap[row, column] if column < row else tau[row, column])
            what = f"top {k} overlap" if column < row else "tau"
            x = left + cell * column
            if row == column:
                board.rect(x, y, cell - 1, cell - 1, "diagonal")
                board.text(x + cell / 2, y + cell / 2 + 4, str(row + 1), "tick", "middle")
                continue
            fill, ink = _shade(value)
            board.rect(x, y, cell - 1, cell - 1, "cell", fill, f"{names[row]} and {names[column]}: {what} {value:.2f}")
            if numbers and math.isfinite(value):
                text = f"{100 * value:.0f}" if column < row else f"{value:.2f}".replace("0.", ".").replace("-", "−")
                board.text(x + cell / 2 - 0.5, y + cell / 2 + 4, text, f"cell-{ink}", "middle")
    return board.svg()


RAMP = ((247, 247, 247), (204, 221, 238), (140, 180, 217), (66, 129, 186), (16, 78, 139), (8, 44, 84))
"""Light to dark blue: read by lightness alone, so it survives gray printing and color blindness."""


def _shade(value: float) -> tuple[str, str]:
    """Fill of a value in [0, 1], and which ink reads on it."""
    if not math.isfinite(value):
        return "#cccccc", "dark"
    place = min(max(value, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    color = [round(a + (b - a) * (place - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)]
    luminance = luminance_of((color[0], color[1], color[2]))
    # whichever of black and white has more contrast (WCAG): they meet at this luminance
    return "#{:02x}{:02x}{:02x}".format(*color), "dark" if luminance > 0.179 else "light"


def luminance_of(color: tuple[int, int, int]) -> float:
    """Computes the relative luminance of an sRGB color, as WCAG 2 defines it.

    Args:
        color: Red, green and blue, 0 to 255.

    Returns:
        The luminance, 0 to 1.

    Example:
        >>> luminance_of((255, 255, 255)), luminance_of((0, 0, 0))
        (1.0, 0.0)
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color)]
    return round(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2], 6)
