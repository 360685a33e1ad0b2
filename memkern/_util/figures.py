"""Empty figures to draw on. No pyplot: nothing global is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memkern._util.optional_imports import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, extra: str) -> Figure:
    """Makes an empty figure, which notebooks show.

    Args:
        width: Inches.
        height: Inches.
        extra: The extra of memkern that brings matplotlib, for the error message; "" if none does.

    Returns:
        The figure.

    Raises:
        MissingPackageError: If matplotlib is missing.
    """
    figure: Figure = require("memkern._util.shown_figure", "matplotlib", extra=extra).ShownFigure(
        figsize=(width, height), layout="constrained"
    )
    return figure
