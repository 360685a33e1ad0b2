"""Unit means: the mean activation of each unit for each point, over views and space, in float64."""

from __future__ import annotations

from torch import Tensor


def unit_means(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> Tensor:
    """Computes the mean of the activations over every dimension but dim 0 (points) and ``unit_dim``.

    Args:
        x: Activations; dim 0 holds the points.
        unit_dim: The dimension of the units.
        activation: "raw", "relu" or "abs", applied to each element before averaging.

    Returns:
        [N, U] float64.
    """
    x = {"raw": lambda a: a, "relu": lambda a: a.relu(), "abs": lambda a: a.abs()}[activation](x.double())
    return x.movedim(unit_dim, 1).unsqueeze(-1).flatten(2).mean(2)
