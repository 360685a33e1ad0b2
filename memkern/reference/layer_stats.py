"""Layer statistics: alignment per point and unit means of one layer's activations, in float64."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from memkern.reference.alignment import of_directions, view_sums

__all__ = ["layer_stats", "view_sums"]


def layer_stats(
    x: Tensor, *, unit_dim: int = 2, pairs: str = "all", normalize: bool = True, distance: str = "l2"
) -> tuple[Tensor, Tensor]:
    """Computes the alignment of the flattened views, and the unit means over views and space.

    Args:
        x: [N, V, ...] activations; dim 0 holds the points, dim 1 the views.
        unit_dim: The dimension of the units.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        alignment [N] and unit means [N, U], both float64.
    """
    x = x.double()
    z = torch.nn.functional.normalize(x.flatten(2), dim=2) if normalize else x.flatten(2)
    views = range(x.shape[1])
    chosen = itertools.combinations(views, 2) if pairs == "all" else ((0, j) for j in views[1:])
    p = 1 if distance == "l1" else 2
    distances = torch.stack([(z[:, i] - z[:, j]).norm(p, dim=1) for i, j in chosen])
    return of_directions(distances, distance).mean(0), x.movedim(unit_dim, 1).unsqueeze(-1).flatten(2).mean(2)
