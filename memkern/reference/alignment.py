"""Alignment: the mean l2 distance between the views of each point, in float64."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def pair_indices(views: int, pairs: str) -> tuple[list[int], list[int]]:
    """Lists the compared views: (0,1), (0,2), ..., (0,V-1), then for "all" (1,2), ..."""
    chosen = itertools.combinations(range(views), 2) if pairs == "all" else ((0, j) for j in range(1, views))
    first, second = zip(*chosen, strict=True)
    return list(first), list(second)


def alignment(z: Tensor, *, pairs: str = "all", normalize: bool = True, distance: str = "l2") -> Tensor:
    """Computes the mean over pairs (i, j) of ||z_i - z_j||, views divided by max(||z_i||_2, 1e-12) if ``normalize``.

    Args:
        z: ``[N, V, *dims]`` floating.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each view to unit length.
        distance: "l2", "l1", or see ``of_directions``.

    Returns:
        [N] float64.
    """
    return pair_distances(z, pairs=pairs, normalize=normalize, distance=distance).mean(1)


def pair_distances(z: Tensor, *, pairs: str = "all", normalize: bool = True, distance: str = "l2") -> Tensor:
    """Computes the distances of ``z``, ``[N, V, *dims]``, themselves: [N, pairs] float64."""
    z = z.double().flatten(2)
    if normalize:
        z = torch.nn.functional.normalize(z, dim=2)
    p = 1 if distance == "l1" else 2
    found = [(z[:, i] - z[:, j]).norm(p, dim=1) for i, j in zip(*pair_indices(z.shape[1], pairs), strict=True)]
    return of_directions(torch.stack(found, 1), distance)


def of_directions(l2: Tensor, distance: str) -> Tensor:
    """Computes distances of directions, ``[...]``, from the l2 distances of the unit vectors.

    "cosine": 1 - cos = d^2 / 2. "angular": arccos(cos) / pi = 2 asin(d / 2) / pi. As they stand these lose all digits
    near cos = 1.
    """
    if distance == "cosine":
        return l2.square() / 2
    return 2 / torch.pi * torch.asin((l2 / 2).clamp_max(1)) if distance == "angular" else l2


def view_sums(z: Tensor, *, normalize: bool = True, distance: str = "l2") -> tuple[Tensor, Tensor, Tensor]:
    """Computes what the distances of all pairs say of the views of ``z``, ``[N, V, *dims]``; see ``sums_of_views``."""
    return sums_of_views(pair_distances(z, normalize=normalize, distance=distance), z.shape[1])


def sums_of_views(distances: Tensor, views: int) -> tuple[Tensor, Tensor, Tensor]:
    """Computes row sums of the matrix of distances, the means of the pairs of even and of odd views, and the jackknife.

    Args:
        distances: [N, pairs] of all pairs, in their order.
        views: The number of views V.

    Returns:
        [N, V] the sum of a view's distances to the others, [2, N] the mean distance among the even and among the odd
        views (NaN if there is but one), and [N] the standard error of the mean distance over draws of the views (NaN of
        two), from its values without each view in turn; of the dtype of ``distances``.
    """
    first, second = pair_indices(views, "all")
    matrix = distances.new_zeros(len(distances), views, views)
    matrix[:, first, second] = matrix[:, second, first] = distances
    halves = []
    for part in (matrix[:, ::2, ::2], matrix[:, 1::2, 1::2]):
        count = part.shape[1]
        halves.append(part.sum((1, 2)) / (count * (count - 1)))
    rows = matrix.sum(2)
    without = (distances.sum(1, keepdim=True) - rows) / ((views - 1) * (views - 2) / 2 or torch.nan)
    errors = ((without - without.mean(1, keepdim=True)).square().sum(1) * (views - 1) / views).sqrt()
    return rows, torch.stack(halves), errors


def alignment_backward(grad: Tensor, z: Tensor, *, pairs: str = "all", normalize: bool = True) -> Tensor:
    """Computes the gradient of sum(grad * alignment(z)) with respect to z; a zero distance has gradient 0.

    Args:
        grad: [N].
        z: ``[N, V, *dims]``.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each view to unit length.

    Returns:
        ``[N, V, *dims]`` float64.
    """
    flat = z.double().flatten(2)
    norm = flat.norm(dim=2, keepdim=True)
    unit = flat / norm.clamp_min(1e-12) if normalize else flat
    first, second = pair_indices(z.shape[1], pairs)
    total = torch.zeros_like(unit)  # d alignment / d unit
    for i, j in zip(first, second, strict=True):
        difference = unit[:, i] - unit[:, j]
        distance = difference.norm(dim=1, keepdim=True)
        step = torch.where(distance == 0, 0.0, difference / distance) / len(first)
        total[:, i] += step
        total[:, j] -= step
    if normalize:  # through z / max(||z||, 1e-12): below the clamp the divisor is a constant
        radial = torch.where(norm < 1e-12, 0.0, (unit * total).sum(2, keepdim=True))
        total = (total - radial * unit) / norm.clamp_min(1e-12)
    return (grad.double()[:, None, None] * total).reshape(z.shape)
