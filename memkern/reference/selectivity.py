"""Selectivity state: per unit the largest per-point mean, where it is, and the sum of all the others, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def selectivity(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes per unit the peak, index, rest and smallest of the per-point means.

    Args:
        x: Activations [N, ...]; dim 0 holds the points. A matrix [N, U] of means is the simplest case.
        unit_dim: The dimension of the units.
        activation: "raw", "relu" or "abs", applied to each element before averaging.

    Returns:
        Four tensors [U]. The peak, float64, is the largest per-point mean, NaN if any is NaN. The index, int64, is its
        position, the first one on ties, that of the first NaN if any. The rest, float64, is the sum of the means of all
        the other points. The minimum, float64, is the smallest per-point mean, NaN if any is NaN.
    """
    x = {"raw": lambda a: a, "relu": lambda a: a.relu(), "abs": lambda a: a.abs()}[activation](x.double())
    means = x.movedim(unit_dim, 1).unsqueeze(-1).flatten(2).mean(2)
    peak, index = means.max(0)[0], means.argmax(0)  # argmax names the first maximum, and the first NaN
    others = means.scatter(0, index[None], torch.zeros_like(peak)[None])
    return peak, index, others.sum(0), means.amin(0)
