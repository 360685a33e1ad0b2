"""Charts of how sure an audit is. Each takes plain numbers and gives inline SVG, `WIDE` or `NARROW`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkern.audit.report.charts import NARROW, evenly_spaced, left_margin
from memkern.audit.report.svg import Board, Scale, number, tick_text, ticks
from memkern.audit.report.text import clean

Floats = NDArray[np.float64]

LEAST_RATE = 1e-3
"""Where the axes of a ROC curve begin."""

MOST_DECADES = 12.0
"""Where the axis of −log10 p ends at most: smaller p differ by the model of the noise alone."""

CELLS = {True: 30, False: 60}
"""Images in the picture of encoders x images: on a phone, on a desktop."""

SHADES = ("#8c3a00", "#c96a1e", "#eeb079", "#f3ddca", "#f4f4f4", "#cfdfee", "#8cb4d9", "#3f7fb8", "#0f4c87")
"""From farther apart than the image's mean, orange, to closer, blue; read by color and by lightness."""


@dataclass(frozen=True)
class Curve:
    """ROC curve of one encoder.

    Attributes:
        encoder: Its name.
        fpr: False-positive rates, `[P]`.
        tpr: True-positive rates, `[P]`.
        low: Lower ends of their intervals, `[P]`.
        high: Upper ends.
        auc: Area under the curve.
    """

    encoder: str
    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats
    auc: float


def _kind(width: int) -> str:
    return "narrow" if width == NARROW else "wide"


def heat_map(
    closer: Floats, member: NDArray[np.bool_], names: Sequence[str], called: int, fdr: str, *, width: int
) -> str:
    """Draws how much closer each encoder puts the views of each image than the encoders do on average.

    Args:
        closer: Mean alignment of the image minus that of the encoder, `[K, I]`, images by ascending q; NaN is blank.
        member: Whether the encoder saw the image, `[K, I]`.
        names: The encoders, `[K]`.
        called: How many of the images, from the left, are called.
        fdr: The false-discovery rate, in words.
        width: `WIDE` or `NARROW`.

    Returns:
        SVG.
    """
    narrow = width == NARROW
    closer, member = closer[:, : CELLS[narrow]], member[:, : CELLS[narrow]]
    encoders, images = closer.shape
    called = min(called, images)
    left, top = left_margin(names, 96 if narrow else 150), 26
    cell = (width - left - 6) / max(images, 1)
    row = min(26.0, max(9.0, 320 / max(encoders, 1)))
    largest = float(np.nanquantile(np.abs(closer), 0.95)) if np.isfinite(closer).any() else 1.0
    label = (
        f"{encoders} encoders by {images} images in order of q, {called} of them at most {fdr}; blue where an encoder "
        "puts the views of an image closer together than the others do, a dot where it saw the image"
    )
    board = Board(width, top + row * encoders + 40, label, _kind(width))
    steps = np.rint((np.clip(closer / (largest or 1.0), -1, 1) + 1) / 2 * (len(SHADES) - 1))
    for shade, fill in enumerate(SHADES):
        d = "".join(
            f"M{number(left + i * cell)} {number(top + k * row)}h{number(cell - 0.6)}v{number(row - 1)}"
            f"h{number(0.6 - cell)}Z"
            for k, i in np.argwhere(steps == shade)
        )
        if d:
            board.path(d, "cell", fill)
    dots = [(left + (i + 0.5) * cell, top + (k + 0.5) * row) for k, i in np.argwhere(member)]
    board.dots(dots, "seen")
    for k in evenly_spaced(encoders, max(2, int(320 / 13))) if row < 13 else range(encoders):
        board.text(left - 5, top + (k + 0.5) * row + 4, clean(names[k], 13 if narrow else 20), "name", "end")
    bottom = top + row * encoders
    edge = left + called * cell
    if called:
        board.line(edge - 0.3, top - 8, edge - 0.3, bottom + 4, "threshold")
        at_end = edge > (left + width) / 2
        board.text(edge + (-4 if at_end else 4), top - 10, f"q ≤ {fdr}", "tick", "end" if at_end else "start")
    else:
        board.text(left, top - 10, f"no image has q ≤ {fdr}", "tick")
    for place, fill in enumerate(SHADES[::2]):
        board.rect(left + 15 * place, bottom + 14, 15, 11, "cell", fill)
    edges = f"{-largest:+.2g} to {largest:+.2g}".replace("-", "−")
    board.text(left + 82, bottom + 24, f"closer by {edges}" if narrow else f"closer than the mean by {edges}", "tick")
    if not narrow:
        board.dots([(left + 380, bottom + 20)], "seen-key")
        board.text(left + 388, bottom + 24, "saw the image; images from left to right by q", "tick")
    return board.svg()


def volcano(
    score: Floats, p: Floats, called: NDArray[np.bool_], fdr: str, name: str, *, width: int, most: int = 2500
) -> str:
    """Draws SSLMem of each image against −log10 of its p.

    Args:
        score: SSLMem, `[N]`.
        p: `[N]`, without NaN.
        called: Whether q is at most the rate, `[N]`.
        fdr: The false-discovery rate, in words.
        name: What to call the score.
        width: `WIDE` or `NARROW`.
        most: How many images are drawn at most; called ones always are.

    Returns:
        SVG.
    """
    height, left, bottom, top = 260, 40, 214, 22
    label = f"SSLMem against p of {len(p)} images; {int(called.sum())} have q of at most {fdr}"
    board = Board(width, height, label, _kind(width))
    up = -np.log10(np.maximum(p, 1e-300))
    low, high = float(score.min(initial=0.0)), float(score.max(initial=0.0))
    pad = 0.04 * (high - low or 1.0)
    edge = min(MOST_DECADES, max(2.0, 1.05 * float(up.max())))
    x, y = Scale(low - pad, high + pad, left, width - 10), Scale(0, edge, bottom, top)
    for tick in ticks(0, y.high, 4):
        board.line(left, y(tick), width - 10, y(tick), "grid")
        board.text(left - 5, y(tick) + 4, tick_text(tick), "tick", "end")
    for tick in ticks(x.low, x.high, 4 if width == NARROW else 8):
        board.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        board.text(x(tick), bottom + 17, tick_text(tick), "tick", "middle")
    board.line(x(0.0), top, x(0.0), bottom, "zero")
    board.line(left, bottom, width - 10, bottom, "axis")
    rest, chosen = np.flatnonzero(~called), np.flatnonzero(called)
    rest = rest[np.argsort(p[rest], kind="stable")][evenly_spaced(len(rest), most)]
    for rows, kind in ((rest, "quiet"), (chosen, "scored")):
        board.dots([(x(score[row]), y(up[row])) for row in rows], kind)
    if len(chosen):
        at = y(float(up[chosen].min())) + 3
        board.line(left, at, width - 10, at, "threshold")
        board.text(left + 5, at - 5, f"q ≤ {fdr}", "tick")
    else:
        board.text(width - 10, 12, f"no image has q ≤ {fdr}", "tick", "end")
    cut = f"; dots at the top: {MOST_DECADES:.0f} and more" if edge == MOST_DECADES else ""
    board.text(left - 32, 12, f"−log10 p{cut}", "tick")
    board.text(width - 10, height - 8, f"{name} at the output", "tick", "end")
    return board.svg()


def reliability(names: Sequence[str], values: Floats, *, width: int) -> str:
    """Draws the reliability of the ranking of images at each layer, from 0 to 1.

    Args:
        names: The layers, in forward order.
        values: `[L]`; NaN is left out.
        width: `WIDE` or `NARROW`.

    Returns:
        SVG.
    """
    narrow, row, top = width == NARROW, 18, 22
    left = left_margin(names, 122 if narrow else 190)
    best = int(np.nanargmax(values)) if np.isfinite(values).any() else -1
    label = f"Reliability of the ranking at {len(names)} layers"
    if best >= 0:
        label += f"; largest at {names[best]}, {values[best]:.2f}"
    bottom = top + row * len(names)
    board = Board(width, bottom + 8, label, _kind(width))
    x = Scale(0, 1, left + 6, width - 40)
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        board.line(x(tick), top - 4, x(tick), bottom, "threshold" if tick == 0.8 else "grid")
        board.text(x(tick), top - 8, tick_text(tick), "tick", "middle")
    for place, name in enumerate(names):
        middle = top + row * (place + 0.5)
        board.text(left - 2, middle + 4, clean(name, 18 if narrow else 27), "name", "end")
        if math.isfinite(values[place]):
            board.rect(x(0), middle - 5, x(values[place]) - x(0), 10, "bar", tip=f"{name}: {values[place]:.3f}")
            board.text(x(values[place]) + 4, middle + 4, f"{values[place]:.2f}", "tick")
        else:
            board.text(x(0) + 4, middle + 4, "–", "tick")
    return board.svg()


def levels(names: Sequence[str], roles: Sequence[str], values: Floats, *, width: int) -> str:
    """Draws how much each training shifts all of its alignments: one mark a training, a row a role.

    Args:
        names: The encoders, `[K]`.
        roles: "f", "g" or "" of each.
        values: Their levels at the output, `[K]`; NaN is left out.
        width: `WIDE` or `NARROW`.

    Returns:
        SVG.
    """
    rows = sorted(set(roles))
    left, top, row = 30 if rows != [""] else 12, 12, 30
    bottom = top + row * len(rows)
    known = values[np.isfinite(values)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    board = Board(
        width, bottom + 36, f"Levels of {len(known)} trainings, standard deviation {spread:.3g}", _kind(width)
    )
    reach = 1.1 * float(np.abs(known).max(initial=1e-9))
    x = Scale(-reach, reach, left, width - 12)
    for tick in ticks(-reach, reach, 4 if width == NARROW else 8):
        board.line(x(tick), top, x(tick), bottom, "zero" if tick == 0 else "grid")
        board.text(x(tick), bottom + 15, tick_text(tick), "tick", "middle")
    for name, role, value in zip(names, roles, values, strict=True):
        if math.isfinite(value):
            y = top + row * (rows.index(role) + 0.5)
            shape, kind = ("diamond", "others") if role == "g" else ("disc", "scored")
            board.mark(x(value), y, shape, kind, f"{name}: {value:+.4f}")
    for place, role in enumerate(rows):
        board.text(left - 10, top + row * (place + 0.5) + 4, role, "name", "end")
    board.text(width - 12, bottom + 31, "level: shift of all alignments of a training", "tick", "end")
    return board.svg()


def roc(curves: Sequence[Curve], *, width: int) -> str:
    """Draws ROC curves on logarithmic axes: one line an encoder, and the band of the one with the middle AUC.

    Args:
        curves: One an encoder.
        width: `WIDE` or `NARROW`.

    Returns:
        SVG.
    """
    side = 330 if width == NARROW else 400
    left, bottom, top = 46, side - 44, 22
    by_auc = sorted(curves, key=lambda curve: curve.auc)
    middle = by_auc[len(by_auc) // 2]
    aucs = " to ".join(sorted({f"{by_auc[0].auc:.2f}", f"{by_auc[-1].auc:.2f}"}))
    board = Board(width, side, f"ROC curves of {len(curves)} encoders on logarithmic axes, AUC {aucs}", _kind(width))
    end = math.log10(LEAST_RATE)
    x, y = Scale(end, 0, left, min(width - 12, left + 560)), Scale(end, 0, bottom, top)
    for power in range(int(end), 1):
        text = f"{100 * 10.0**power:.6g}%"
        board.line(x(power), top, x(power), bottom, "grid")
        board.line(left, y(power), x.end, y(power), "grid")
        board.text(x(power), bottom + 16, text, "tick", "middle" if power else "end")
        board.text(left - 5, y(power) + 4, text, "tick", "end")
    board.line(x(end), y(end), x(0), y(0), "chance")

    def points(rates: Floats, values: Floats) -> list[str]:
        logs = np.log10(np.maximum(values, LEAST_RATE))
        return [f"{number(x(a))} {number(y(b))}" for a, b in zip(np.log10(rates), logs, strict=True)]

    band = [*points(middle.fpr, middle.high), *reversed(points(middle.fpr, middle.low))]
    board.path(f"M{'L'.join(band)}Z", "band")
    for curve in curves:
        board.path("M" + "L".join(points(curve.fpr, curve.tpr)), "curve main" if curve is middle else "curve")
    board.text(left, 12, "true positives", "tick")
    board.text(x.end, side - 8, "false positives", "tick", "end")
    return board.svg()
