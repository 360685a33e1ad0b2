"""Encoders that are one training, and must not be counted as two."""

from __future__ import annotations

import numpy as np

from memkern._util.optional_imports import require
from memkern.errors import DataError
from memkern.families.cells import UNKNOWN, Cells, Floats
from memkern.families.design import Design

FACTOR = 0.1
"""A pair whose difference varies at most this share of the median pair's is one training."""

ALIKE = 0.25
"""And its share of the variances of the two is at most this part of the median pair's share."""

CHANCE = 1e-3
"""Unless so small a variance of so few images has this chance among all pairs of trainings."""


def duplicate_encoders(alignment: Floats, design: Design) -> list[tuple[str, str]]:
    """Pairs of encoders that differ too little to be two trainings, such as checkpoints of one.

    The difference of the two is looked at over images of equal, known membership: its variance is small beside that of
    the median pair, and too small to be the chance of a few images. With fewer than three pairs only a difference that
    does not vary at all counts. Encoders whose alignments are the same for every image (a collapsed layer) say nothing.

    Args:
        alignment: `[N, K]` of one layer, the output.
        design: Who saw which image.

    Returns:
        Names of the two encoders of each pair.
    """
    values, seen = np.ascontiguousarray(alignment.T), np.ascontiguousarray(design.membership.T)
    spread, share = _spreads(alignment, Cells.of(design.membership))
    pairs = np.argwhere(np.triu(np.isfinite(spread), 1))
    known = spread[pairs[:, 0], pairs[:, 1]]
    # sums of squares round: what may matter, and what may be exactly 0, is looked at image by image
    size = float(np.mean((alignment - alignment.mean(1, keepdims=True)) ** 2))
    doubtful = known <= max(2 * FACTOR * float(np.median(known)) if len(known) > 2 else np.inf, 1e-12 * size)
    images = np.zeros(len(pairs), dtype=np.int64)
    for place in np.flatnonzero(doubtful):
        j, k = pairs[place]
        same = (seen[j] == seen[k]) & (seen[j] != UNKNOWN)
        first, second = values[j, same], values[k, same]
        flat = np.ptp(first) == 0 and np.ptp(second) == 0
        known[place], images[place] = np.nan if flat else float(np.var(first - second)), int(same.sum())
    told = known[np.isfinite(known)]
    median = float(np.median(told)) if len(told) > 2 else 0.0
    shares = share[pairs[:, 0], pairs[:, 1]]
    usual = float(np.nanmedian(shares)) if len(told) > 2 else np.inf
    names, chi2 = design.encoders, require("scipy.stats", "scipy").chi2
    found = []
    for place in np.flatnonzero(known <= FACTOR * median):
        degrees = images[place] - 1
        chance = float(chi2.cdf(degrees * known[place] / median, degrees)) if known[place] > 0 else 0.0
        alike = known[place] == 0 or shares[place] <= ALIKE * usual
        if alike and chance * len(told) <= CHANCE:
            found.append((names[pairs[place, 0]], names[pairs[place, 1]]))
    return found


def _spreads(alignment: Floats, cells: Cells) -> tuple[Floats, Floats]:
    """Variance of the difference of two encoders over images of equal membership, `[K, K]`; NaN for 2 images or fewer.

    And that variance over the sum of the two variances. By products of matrices, which is fast and rounds.
    """
    centred = alignment - alignment.mean(1, keepdims=True)
    about = alignment - alignment.mean()
    count, total, squares, sums, powers = (np.zeros((centred.shape[1],) * 2) for _ in range(5))
    for mask in (cells.inside, cells.outside):
        own = mask * centred
        both, mixed = (own * own).T @ mask, own.T @ mask
        count += mask.T @ mask
        total += mixed - mixed.T
        squares += both + both.T - 2 * (own.T @ own)
        sums += (mask * about).T @ mask
        powers += (mask * about**2).T @ mask
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(count > 2, squares / count - (total / count) ** 2, np.nan)
        own_spread = powers / count - (sums / count) ** 2  # of the encoder of the row
        return spread, spread / (own_spread + own_spread.T)


def refuse_duplicates(alignment: Floats, design: Design) -> None:
    """Raises an error if two encoders, by their alignments `[N, K]`, are one training; see `duplicate_encoders`.

    Args:
        alignment: `[N, K]` of the output layer.
        design: Who saw which image.

    Raises:
        DataError: If there is such a pair: counted as two, they would call images memorized that are not.
    """
    found = duplicate_encoders(alignment, design)
    if found:
        one, other = found[0]
        raise DataError(
            f"Encoders {one!r} and {other!r} differ too little to be two trainings ({len(found)} such pairs), as "
            "checkpoints of one training do: leave one of them out"
        )
