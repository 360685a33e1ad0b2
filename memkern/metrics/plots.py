"""Figure of the scores of a streaming metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def histogram(values: Tensor, score: str, of: str) -> Figure:
    """Draws how many units or points have which score.

    Args:
        values: ``[n]`` floating scores on any device; what is not finite is counted in the title in place of drawn.
        score: Name of the score.
        of: What has one: "units" or "points".

    Returns:
        The figure.

    Raises:
        MissingPackageError: If matplotlib is missing.
    """
    from memkern._util.figures import new_figure  # here: `import memkern` reaches nothing that draws

    figure = new_figure(5, 3.5, extra="")
    axes = figure.subplots()
    finite = values[values.isfinite()].double().cpu()
    axes.hist(finite.numpy(), bins=30)
    undefined = len(values) - len(finite)
    axes.set_title(f"{len(values)} {of}" + (f", {undefined} undefined" if undefined else ""), fontsize=9)
    axes.set_xlabel(score)
    axes.set_ylabel(of)
    return figure
