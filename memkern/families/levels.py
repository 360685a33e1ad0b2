"""Levels: what one training shifts all of its alignments by, by least squares in closed form.

The model is `A_ik = alpha_i + beta_k - m_i M_ik + noise` with a free `alpha_i` and `m_i` for every image, so only
contrasts within a cell speak of `beta`. Its normal equations have `K` unknowns whatever the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memkern.families.cells import Cells, Flags, Floats, Ints, sums_by_picture


@dataclass(frozen=True)
class LevelModel:
    """Decisions of the design alone about levels; one serves every layer.

    Attributes:
        laplacian: `[K, K]`, the matrix of the normal equations.
        inverse: `[K, K]`, its pseudo-inverse.
        components: `[K]`, the number of the component of each encoder; levels are known up to a constant in each.
        identified: `[N]`, whether the levels cancel from the difference of the image.
    """

    laplacian: Floats
    inverse: Floats
    components: Ints
    identified: Flags

    @property
    def n_free(self) -> int:
        """Number of levels that are estimated: encoders minus components."""
        return len(self.components) - len(np.unique(self.components))


@dataclass(frozen=True)
class Levels:
    """Levels of one layer.

    Attributes:
        values: `[K]`, summing to 0 in each component.
        covariance: `[K, K]`, robust to dependence within a picture.
    """

    values: Floats
    covariance: Floats


def level_model(cells: Cells) -> LevelModel:
    """Solves for what the design decides about levels.

    Two encoders are connected if some image has both in one cell. The difference of an image is free of levels if its
    contrast (1 / n_out on the encoders out, -1 / n_in on those in) sums to 0 in every component.

    Args:
        cells: Of the images that levels are fitted on; the others have no entry.

    Returns:
        The equations of the levels, solved, and the images whose differences are free of levels.
    """
    laplacian = np.diag(cells.inside.sum(0) + cells.outside.sum(0))
    for mask, count in ((cells.inside, cells.n_in), (cells.outside, cells.n_out)):
        laplacian -= (mask / np.maximum(count, 1)[:, None]).T @ mask
    components = _components(laplacian)
    member = (components[:, None] == np.unique(components)).astype(np.float64)  # [K, components]
    with np.errstate(invalid="ignore", divide="ignore"):
        contrast = cells.outside @ member / cells.n_out[:, None] - cells.inside @ member / cells.n_in[:, None]
    return LevelModel(laplacian, _inverse(laplacian), components, (np.abs(contrast) < 1e-9).all(1))


def fit_levels(alignment: Floats, cells: Cells, model: LevelModel, pictures: Ints) -> Levels:
    """Estimates the levels of one layer.

    Args:
        alignment: `[N, K]`, 0 at unknown entries.
        cells: Those that the model was solved for.
        model: Of `level_model`.
        pictures: `[N]`, the number of the picture of each image.

    Returns:
        The level of each encoder `[K]` and their covariance `[K, K]`.
    """
    values = model.inverse @ cells.residuals(alignment).sum(0)
    scores = sums_by_picture(cells.residuals(alignment - values), pictures)
    used = max(int((scores != 0).any(1).sum()), 2)
    inner = scores.T @ scores
    return Levels(values, used / (used - 1) * model.inverse @ inner @ model.inverse)


def inverses_without_one(cells: Cells, model: LevelModel) -> Floats:
    """Pseudo-inverses of the normal equations without encoder k, for each k: `[K, K, K]`, row and column k being 0.

    A cell without encoder k has the weight 1 / (n - 1) where it had 1 / n; cells that k is not in stay.
    """
    count = cells.inside.shape[1]
    inverses = np.empty((count, count, count))
    for k in range(count):
        without = model.laplacian.copy()
        for mask, size in ((cells.inside, cells.n_in), (cells.outside, cells.n_out)):
            rows = np.flatnonzero((mask[:, k] > 0) & (size > 1))
            n = size[rows, None]
            chosen = mask[rows] * np.sqrt(1 / (n - 1) - 1 / n)
            without -= chosen.T @ chosen  # of a matrix with itself: half of the work
        without[k], without[:, k] = 0, 0
        inverses[k] = _inverse(without)
    return inverses


def levels_without_one(alignment: Floats, cells: Cells, inverses: Floats) -> Floats:
    """Levels fitted without encoder k, for each k: `[K, K]`, column k being those without k, with 0 at k itself.

    A residual in a cell of n encoders becomes `r_ij + r_ik / (n - 1)` when encoder k leaves the cell.

    Args:
        alignment: `[N, K]`, 0 at unknown entries.
        cells: Those that the inverses were made for.
        inverses: `[K, K, K]` of `inverses_without_one`.

    Returns:
        `[K, K]` levels; column k holds those without encoder k.
    """
    residuals = cells.residuals(alignment)
    right = np.broadcast_to(residuals.sum(0), (residuals.shape[1],) * 2).copy()  # [k, j]
    for mask, size in ((cells.inside, cells.n_in), (cells.outside, cells.n_out)):
        right += (mask * residuals / np.maximum(size - 1, 1)[:, None]).T @ mask
    levels: Floats = np.einsum("kjl,kl->jk", inverses, right)
    return levels


def _inverse(laplacian: Floats) -> Floats:
    return np.linalg.pinv(laplacian, rcond=1e-9, hermitian=True).astype(np.float64)


def _components(laplacian: Floats) -> Ints:
    reach = laplacian != 0
    np.fill_diagonal(reach, True)
    while True:
        further = (reach.astype(np.float64) @ reach) > 0
        if (further == reach).all():
            first: Ints = reach.argmax(1)  # the first encoder that is reached names the component
            return first
        reach = further
