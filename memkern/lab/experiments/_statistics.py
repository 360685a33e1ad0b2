"""Statistics that several experiments share."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from memkern._util.optional_imports import require


def center(values: Iterable[float]) -> float:
    """Returns the mean."""
    return statistics.fmean(values)


def spread(values: Iterable[float]) -> float:
    """Returns the standard deviation over seeds; 0 for one seed."""
    listed = list(values)
    return statistics.stdev(listed) if len(listed) > 1 else 0.0


def order(scores: Tensor) -> Tensor:
    """Returns the positions from the largest score to the smallest, ties by position."""
    return scores.argsort(descending=True, stable=True)


def overlap(a: Tensor, b: Tensor) -> float:
    """Returns the share of two equally long lists of ids that is in both, in percent."""
    return 100 * len(set(a.tolist()) & set(b.tolist())) / len(a)


def kendall(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Returns Kendall's tau-b of two lists of scores and its two-sided p-value; 0 and 1 if either is constant."""
    found = require("scipy.stats", "scipy", extra="lab").kendalltau(a.double().numpy(), b.double().numpy())
    if found.statistic != found.statistic:
        return 0.0, 1.0
    return float(found.statistic), float(found.pvalue)


def slope(values: Sequence[float]) -> float:
    """Returns Kendall's tau of a list with its positions: 1 if it only rises, -1 if it only falls."""
    return kendall(torch.arange(len(values)), torch.tensor(values))[0] if len(values) > 1 else 0.0
