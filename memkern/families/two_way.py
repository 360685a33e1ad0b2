"""Errors of a mean over images and trainings, both of which were drawn (two-way clusters)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memkern.families.cells import Floats, Ints


@dataclass(frozen=True)
class Errors:
    """Standard errors of one number.

    Attributes:
        both: Over images and trainings; NaN if a role has one training.
        images: Given the trainings.
        encoders: Given the images; NaN if a role has one training.
        df: Degrees of freedom of an interval with `both`.
    """

    both: float
    images: float
    encoders: float
    df: float


@dataclass(frozen=True)
class Parts:
    """Parts that the errors of an estimate are made of; parts of a difference are differences of parts.

    Attributes:
        left_out: `[K]`, the whole estimate, levels too, without each encoder in turn; NaN where a role has one.
        pictures: `[P]`, what each picture adds to the estimate given the encoders.
        cells: `[P, K]`, what each (picture, encoder) cell adds.
        n_pictures: How many pictures the larger of the image groups comes from.
    """

    left_out: Floats
    pictures: Floats
    cells: Floats
    n_pictures: int

    def minus(self, other: Parts) -> Parts:
        """Parts of the difference of two estimates over the same images and encoders."""
        return Parts(
            self.left_out - other.left_out,
            self.pictures - other.pictures,
            self.cells - other.cells,
            max(self.n_pictures, other.n_pictures),
        )

    def errors(self, strata: tuple[Ints, ...]) -> Errors:
        """Combines the parts.

        The variance is the largest of that between encoders, that between pictures, and their sum less that of the
        (picture, encoder) cells, which both of them hold; degrees of freedom are Satterthwaite's.

        Args:
            strata: The encoders `[K']` of each role, which is jackknifed on its own.

        Returns:
            The standard errors and the degrees of freedom.
        """
        spread = [(self.left_out[each] - self.left_out[each].mean()) ** 2 for each in strata]
        encoders = float(
            sum((len(each) - 1) / len(each) * part.sum() for each, part in zip(strata, spread, strict=True))
        )
        most, twice = self.n_pictures, float((self.cells**2).sum())
        images = most / (most - 1) * float((self.pictures**2).sum()) if most > 1 else float("nan")
        variance = max(encoders, images, encoders + images - twice) if encoders >= 0 else float("nan")
        with np.errstate(divide="ignore", invalid="ignore"):
            by_encoders = np.float64(encoders) ** 2 / max(len(self.left_out) - len(strata), 1)
            df = (encoders + images) ** 2 / (by_encoders + np.float64(images) ** 2 / (most - 1))
            both, given_trainings, given_images = np.sqrt([variance, images, encoders]).tolist()
        return Errors(both, given_trainings, given_images, float(df))
