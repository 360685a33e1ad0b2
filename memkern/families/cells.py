"""Cells: the encoders that saw an image, and those that did not; means and residuals within them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Membership: TypeAlias = NDArray[np.int8]

IN, OUT, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Cells:
    """The two cells of every image, as masks that multiply.

    Attributes:
        inside: `[N, K]`, 1.0 where the encoder saw the image, else 0.0.
        outside: `[N, K]`, 1.0 where the encoder did not see the image, else 0.0; an unknown entry is 0.0 in both.
        n_in: `[N]`, how many encoders saw the image.
        n_out: `[N]`, how many did not.
    """

    inside: Floats
    outside: Floats
    n_in: Floats
    n_out: Floats

    @classmethod
    def of(cls, membership: Membership) -> Cells:
        """The cells of a membership matrix `[N, K]`."""
        inside, outside = (membership == IN).astype(np.float64), (membership == OUT).astype(np.float64)
        return cls(inside, outside, inside.sum(1), outside.sum(1))

    @property
    def two_sided(self) -> Flags:
        """`[N]`, the images with an encoder in and an encoder out."""
        return (self.n_in > 0) & (self.n_out > 0)

    @property
    def degrees(self) -> Floats:
        """`[N]`, degrees of freedom within the cells of an image: `n_in - 1 + n_out - 1`, an empty cell giving 0."""
        return np.maximum(self.n_in - 1, 0) + np.maximum(self.n_out - 1, 0)

    def rows(self, chosen: Flags | Ints | slice) -> Cells:
        """Cells of some images: a mask `[N]`, places, or a range."""
        return Cells(self.inside[chosen], self.outside[chosen], self.n_in[chosen], self.n_out[chosen])

    def columns(self, chosen: Ints) -> Cells:
        """Cells `[N, K']` that are left when only K' of the encoders are looked at."""
        inside, outside = self.inside[:, chosen], self.outside[:, chosen]
        return Cells(inside, outside, inside.sum(1), outside.sum(1))

    def means(self, alignment: Floats) -> tuple[Floats, Floats]:
        """Mean alignment over the encoders in and over the encoders out, `[N]` each; NaN where a cell is empty.

        Args:
            alignment: `[N, K]`, finite (0 at unknown entries).

        Returns:
            The mean in `[N]` and the mean out `[N]`; NaN where a cell is empty.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = np.einsum("nk,nk->n", self.inside, alignment) / self.n_in
            outside = np.einsum("nk,nk->n", self.outside, alignment) / self.n_out
        return inside, outside

    def residuals(self, alignment: Floats) -> Floats:
        """Alignment minus the mean of its cell, `[N, K]`; 0 at unknown entries.

        Args:
            alignment: `[N, K]`, finite (0 at unknown entries).

        Returns:
            `[N, K]` residuals; 0 at unknown entries.
        """
        inside, outside = (np.nan_to_num(each) for each in self.means(alignment))
        left = alignment - inside[:, None]
        left *= self.inside
        right = alignment - outside[:, None]
        right *= self.outside
        left += right
        return left


def ratio_score(inside: Floats, outside: Floats) -> Floats:
    """`(out - in) / (out + in)` of means `[N]` over trainings: 0 at 0 / 0, NaN for a missing mean or a negative sum.

    Only alignments after levels can have a negative sum.
    """
    total = outside + inside
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total == 0, 0.0, np.where(total > 0, (outside - inside) / total, np.nan))


def sums_by_picture(values: Floats, pictures: Ints) -> Floats:
    """Sums over the images of one picture.

    Args:
        values: `[N, ...]`.
        pictures: `[N]`, the number of the picture of each image, from 0 without gaps.

    Returns:
        `[P, ...]`; `values` themselves where every image is a picture of its own.
    """
    count = int(pictures.max()) + 1 if len(pictures) else 0
    if count == len(pictures):
        return values  # a permutation of what the sums would be; nothing that reads them depends on the order
    order = np.argsort(pictures, kind="stable")
    starts = np.searchsorted(pictures[order], np.arange(count))
    return np.add.reduceat(values[order], starts, axis=0)
