"""What a result is compared with: the float64 reference, and an error budget that is derived, never tuned.

A budget is the error that plain torch makes on the same input in the same accumulating dtype, times a factor, plus a
floor of a few roundings. It grows with size and difficulty of the input by itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memkern import native, reference
from memkern.reference.alignment import of_directions, pair_distances, pair_indices, sums_of_views, view_sums
from python_tests.helpers.kernel_paths import threads

# ---- plain torch --------------------------------------------------------------------------------------------------


def plain_alignment(z: Tensor, *, pairs: str = "all", normalize: bool = True, distance: str = "l2") -> Tensor:
    """Alignment as one would write it in torch, in the dtype of ``z``: normalize, subtract, norm, mean. [N]."""
    return _plain_distances(z, pairs, normalize, distance).mean(1)


def _plain_distances(z: Tensor, pairs: str, normalize: bool, distance: str) -> Tensor:
    z = z.flatten(2)
    if normalize:
        z = torch.nn.functional.normalize(z, dim=2)
    first, second = pair_indices(z.shape[1], pairs)
    p = 1 if distance == "l1" else 2
    found = torch.stack([(z[:, i] - z[:, j]).norm(p, dim=1) for i, j in zip(first, second, strict=True)], 1)
    return of_directions(found, distance)


def plain_unit_means(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> Tensor:
    """Unit means as one would write them in torch, in the dtype of ``x``. [N, U]."""
    x = {"raw": lambda a: a, "relu": torch.relu, "abs": torch.abs}[activation](x)
    averaged = [dim for dim in range(1, x.dim()) if dim != unit_dim]
    return x.mean(averaged) if averaged else x


# ---- error budgets ------------------------------------------------------------------------------------------------

# Another order of summation can be worse than torch's by about this much at the worst element of a small tensor.
FACTOR = 4.0
# Roundings of the accumulating dtype that a formula makes whatever the size (square roots, divisions, casts).
ROUNDINGS = 4.0


def budget(
    dtype: torch.dtype,
    plain: Tensor,
    oracle: Tensor,
    *,
    scale: Tensor | None = None,
    factor: float = FACTOR,
    roundings: float = ROUNDINGS,
    floor: float | Tensor = 0.0,
) -> Tensor:
    """The error that a result may have, element by element: factor x plain torch's own error + floor.

    Plain torch's error is its worst one relative to ``scale``, not that of the same element, which may be 0 by luck.

    Args:
        dtype: The accumulating dtype of the result. If ``plain`` was computed in a coarser one, its error is scaled by
            the ratio of epsilons (a float64 result: plain torch in float32, for nothing is finer than the oracle).
        plain: Plain torch's result, not rounded below float32.
        oracle: The float64 reference of the same input as ``plain``.
        scale: The magnitude that rounding errors are relative to: of a sum, the sum of the magnitudes. Default: the
            magnitude of the oracle.
        factor: How many times plain torch's error is allowed.
        roundings: How many epsilons of ``dtype`` are allowed besides.
        floor: An absolute error that is allowed besides, per element or for all.

    Returns:
        A tolerance per element, float64.
    """
    scale = oracle.abs() if scale is None else scale.double().expand_as(oracle)
    error = (plain.double() - oracle).abs() / scale
    error = error[error.isfinite()]  # where the scale is 0 or something is NaN or infinite, no error is defined
    worst = error.max().item() if error.numel() else 0.0
    epsilon, plain_epsilon = torch.finfo(dtype).eps, torch.finfo(plain.dtype).eps
    relative = factor * worst * epsilon / plain_epsilon + roundings * epsilon
    return torch.where(scale.isfinite(), relative * scale, 0.0) + floor + torch.finfo(dtype).smallest_normal


class Expected(NamedTuple):
    """What a result is compared with.

    Attributes:
        oracle: The float64 reference.
        tolerance: The allowed error per element, before the rounding to the result's dtype.
    """

    oracle: Tensor
    tolerance: Tensor


def expected(
    oracle: Callable[[Tensor], Tensor],
    plain: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    scale: Callable[[Tensor], Tensor] | None = None,
    factor: float = FACTOR,
    roundings: float = ROUNDINGS,
    floor: float | Tensor = 0.0,
) -> Expected:
    """The reference of an input and the budget around it.

    Args:
        oracle: The reference, as a function of the input; float64.
        plain: Plain torch, as a function of the input in float32.
        x: The input of the kernel, of any floating dtype.
        scale: As for ``budget``, as a function of the input in float64.
        factor: As for ``budget``.
        roundings: As for ``budget``.
        floor: As for ``budget``.

    Returns:
        Reference and tolerance.
    """
    with threads(1):  # the same budget on every machine; and small tensors on busy cores are faster so
        coarse, truth = x.float(), oracle(x)
        coarse_truth = truth if x.dtype != torch.float64 else oracle(coarse)
        magnitude = None if scale is None else scale(x.double())
        allowed = budget(
            native.accumulate_dtype(x.dtype),
            plain(coarse),
            coarse_truth,
            scale=magnitude,
            factor=factor,
            roundings=roundings,
            floor=floor,
        )
        return Expected(truth, allowed)


def expected_alignment(z: Tensor, *, pairs: str = "all", normalize: bool = True, distance: str = "l2") -> Expected:
    """The reference of ``alignment`` and the budget around it."""
    options: dict[str, Any] = {"pairs": pairs, "normalize": normalize, "distance": distance}
    floor = _floor(z, **options)
    return expected(
        functools.partial(reference.alignment, **options),
        functools.partial(plain_alignment, **options),
        z,
        roundings=ROUNDINGS + walk(floor.shape[1]),  # the distances are added up, too
        floor=floor.mean(1),
    )


def _floor(z: Tensor, pairs: str, normalize: bool, distance: str) -> Tensor:
    """The error of each distance that comes from norms.

    Rounded to half an epsilon each they make an error of up to an epsilon along the unit vectors, at a right angle to a
    small distance: nothing beside 1e-4, all that is left of 0.
    """
    epsilon = torch.finfo(native.accumulate_dtype(z.dtype)).eps if normalize else 0.0
    if distance == "l1":  # made of norms in double; each moves the elements of its unit vector, along it
        views = torch.nn.functional.normalize(z.double().flatten(2), dim=2).norm(1, dim=2) * normalize
        first, second = pair_indices(z.shape[1], pairs)
        return (torch.finfo(torch.float64).eps * (views[:, first] + views[:, second]) / 2).nan_to_num(0.0)
    l2 = pair_distances(z, pairs=pairs, normalize=normalize)
    error = torch.hypot(l2, torch.full_like(l2, epsilon)) - l2
    if distance == "l2":
        return error.nan_to_num(0.0)
    error += ROUNDINGS * epsilon * l2  # of l2 itself, which its square and its arcsine magnify
    here, above, below = (of_directions(value, distance) for value in (l2, l2 + error, l2 - error))
    return torch.maximum(above - here, here - below).nan_to_num(0.0)


def expected_view_sums(
    z: Tensor, *, normalize: bool = True, distance: str = "l2"
) -> tuple[Expected, Expected, Expected]:
    """The references of rows, halves and standard errors of ``alignment_stats``, and the budgets around them."""
    views = z.shape[1]
    floors = sums_of_views(_floor(z, "all", normalize, distance), views)

    def one(part: int, added: int) -> Expected:
        return expected(
            lambda z: view_sums(z, normalize=normalize, distance=distance)[part],
            lambda z: sums_of_views(_plain_distances(z, "all", normalize, distance), views)[part],
            z,
            roundings=ROUNDINGS + walk(added),
            floor=floors[part].nan_to_num(0.0),
        )

    rows = one(0, views)
    # The standard error is the length of a vector of rows, over their pairs: it moves by what they move at most.
    moved = rows.tolerance.norm(dim=1) / max((views - 1) * (views - 2) / 2, 1)
    errors = Expected(view_sums(z, normalize=normalize, distance=distance)[2], moved)
    return rows, one(1, views * views // 8), errors


def expected_gradient(z: Tensor, upstream: Tensor, *, pairs: str = "all", normalize: bool = True) -> Expected:
    """The reference of the gradient of ``sum(upstream * alignment(z))`` and the budget around it."""
    options: dict[str, Any] = {"pairs": pairs, "normalize": normalize}
    epsilon = torch.finfo(native.accumulate_dtype(z.dtype)).eps

    def plain(z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        plain_alignment(leaf, **options).backward(upstream.to(leaf.dtype))
        assert leaf.grad is not None
        return leaf.grad

    def scale(z: Tensor) -> Tensor:
        """Each pair adds a unit vector, a difference of unit vectors: it has their error over their distance."""
        flat = z.flatten(2)
        norms = flat.norm(dim=2, keepdim=True).clamp_min(1e-12)
        elements = (flat / norms).abs().clamp_min(flat.shape[2] ** -0.5)
        distances = pair_distances(z, **options)
        error = 1 + (1 / distances.clamp_min(epsilon) if normalize else torch.zeros_like(distances))
        first, second = (torch.tensor(views) for views in pair_indices(z.shape[1], pairs))
        per_view = torch.zeros(z.shape[:2], dtype=z.dtype).index_add(1, first, error).index_add(1, second, error)
        size = upstream.double().abs()[:, None] * per_view / len(first)
        bound: Tensor = size[:, :, None] * elements / (norms if normalize else 1)
        return bound.view(z.shape)

    return expected(functools.partial(reference.alignment_backward, upstream, **options), plain, z, scale=scale)


def expected_unit_means(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> Expected:
    """The reference of ``unit_means`` and the budget around it, relative to the mean of the magnitudes."""
    options: dict[str, Any] = {"unit_dim": unit_dim, "activation": activation}
    elements = x[0].numel() // max(x.shape[unit_dim], 1) if len(x) else 0
    return expected(
        functools.partial(reference.unit_means, **options),
        functools.partial(plain_unit_means, **options),
        x,
        scale=functools.partial(reference.unit_means, unit_dim=unit_dim, activation="abs"),
        # float64 has nothing wider to add in
        roundings=ROUNDINGS + (walk(elements) if x.dtype == torch.float64 else 0.0),
    )


def walk(count: int) -> float:
    """Epsilons that adding ``count`` numbers may lose: each addition half of one at most, up or down by chance."""
    return math.sqrt(count) / 4
