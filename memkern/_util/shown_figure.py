"""A matplotlib figure that notebooks show by itself; import it by `optional_imports.require`.

Notebooks show figures of pyplot alone, whose state is of the whole process; these leave it as it is.
"""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure without pyplot."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
