"""Encoders that are one training, and must not be counted as two."""

from __future__ import annotations

import warnings

import numpy as np

from memkern.errors import DataError
from memkern.families.cells import UNKNOWN, Floats
from memkern.families.design import Design

FACTOR = 0.1
"""A pair whose difference varies at most this share of the median pair's is one training."""


def duplicate_encoders(alignment: Floats, design: Design) -> list[tuple[str, str]]:
    """Pairs of encoders that differ too little to be two trainings, such as checkpoints of one.

    The difference of the two is looked at over images of equal, known membership: its variance is small beside that of
    the median pair. With fewer than three pairs only a difference that does not vary at all counts. Encoders whose
    alignments are the same for every image (a collapsed layer) say nothing.

    Args:
        alignment: `[N, K]` of one layer, the output.
        design: Who saw which image.

    Returns:
        Names of the two encoders of each pair.
    """
    values, seen = np.ascontiguousarray(alignment.T), np.ascontiguousarray(design.membership.T)
    count = len(values)
    pairs, spread = [], []
    for j in range(count):
        for k in range(j + 1, count):
            same = (seen[j] == seen[k]) & (seen[j] != UNKNOWN)
            first, second = values[j, same], values[k, same]
            flat = len(first) <= 2 or (np.ptp(first) == 0 and np.ptp(second) == 0)
            pairs.append((j, k))
            spread.append(np.nan if flat else float(np.var(first - second)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no pair with a known difference
        limit = FACTOR * float(np.nanmedian(spread)) if np.isfinite(spread).sum() > 2 else 0.0
    names = design.encoders
    return [(names[j], names[k]) for (j, k), value in zip(pairs, spread, strict=True) if value <= limit]


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
