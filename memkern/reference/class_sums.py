"""Class sums: the sum of the unit means of each class's points, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def class_sums(means: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    """Computes the sums of ``means`` over the points of each class.

    Args:
        means: [N, U].
        labels: [N] int64 in [0, classes).
        classes: How many classes; one without a point sums to 0.

    Returns:
        [classes, U] float64.
    """
    zeros = torch.zeros(classes, means.shape[1], dtype=torch.float64, device=means.device)
    return zeros.index_add(0, labels, means.double())
