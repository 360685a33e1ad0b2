"""Figures that several experiments draw. No pyplot: nothing global is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memkern._util import figures
from memkern.lab.data.packaged import ImageSet
from memkern.lab.experiments._statistics import order
from memkern.lab.pair_scores import PairScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure.

    Args:
        width: Inches.
        height: Inches.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
    """
    return figures.new_figure(width, height, extra="lab")


def lines(
    series: Mapping[str, Sequence[float]], x: Sequence[object], *, xlabel: str, ylabel: str, title: str
) -> Figure:
    """Draws one line per series over common places."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot([str(place) for place in x], values, "o-", label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=45)
    axes.legend(fontsize=8)
    return figure


def gallery(scores: PairScores, data: ImageSet, count: int = 10) -> Figure:
    """Draws the most and the least memorized candidates."""
    candidates = scores.rows("candidate")
    ranked = candidates[order(scores.of("candidate"))]
    count = min(count, len(ranked) // 2)
    figure = new_figure(1.25 * count, 3.4)
    grid = figure.subplots(2, count, squeeze=False)
    for row, (title, chosen) in enumerate((("most", ranked[:count]), ("least", ranked.flip(0)[:count]))):
        for axes, place in zip(grid[row], chosen.tolist(), strict=True):
            axes.imshow(data.images[scores.ids[place]].permute(1, 2, 0).numpy())
            axes.set_axis_off()
            picture = data.label_names[int(scores.labels[place])].split("_")[0][:10]
            axes.set_title(f"{float(scores.sslmem[place]):+.3f}\n{picture}", fontsize=8)
        grid[row][0].text(-6, 16, f"{title} memorized", rotation=90, va="center", ha="center", fontsize=9)
    return figure
