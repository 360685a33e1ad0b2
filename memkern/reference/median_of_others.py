"""Median of the others: each column's median without one copy of its largest value, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def median_of_others(means: Tensor) -> Tensor:
    """Computes the median of each column after one copy of its largest value is taken out.

    Args:
        means: [N, U] with N >= 2.

    Returns:
        [U] float64; NaN for a column that holds a NaN.
    """
    ordered = means.double().sort(0)[0][:-1]  # NaN sorts last
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return torch.where(means.isnan().any(0), torch.nan, middle)
