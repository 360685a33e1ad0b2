"""Derivatives of a score of each point, under every transform of torch: vmap, jvp, vjp, Hessians, per-sample gradients.

A kernel has values and a gradient. Because a point's score depends on that point alone, these two give all the rest of
first order: a tangent is the gradient times the direction, and a batch of stacks of points is one longer stack. Second
derivatives are plain torch's, of the formula in float64. Ordinary calls and ordinary gradients take none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memkern.errors import ArgumentValueError


class Batch(Protocol):
    """Batch of a vmap."""

    batch_size: int


class Context(Protocol):
    """Context of a function of autograd, which carries from its forward to its derivatives."""

    score: PointScore
    options: tuple[object, ...]
    saved_tensors: tuple[Tensor, ...]
    save_for_backward: Callable[..., None]
    save_for_forward: Callable[..., None]


class PointScore(NamedTuple):
    """A score of each point of ``z``, ``[N, ...]``, in three forms that agree.

    Attributes:
        values: Computes the scores ``[N]`` of z by a kernel.
        gradient: Computes the gradient of ``sum(grad * values(z))``, like z, of grad ``[N]`` and z by a kernel.
        formula: Computes the scores by operations of torch, each of which torch differentiates.
    """

    values: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]
    formula: Callable[[Tensor], Tensor]


def alignment_score(
    values: Callable[[Tensor], Tensor],
    saved: Callable[[Tensor], Tensor],
    options: tuple[bool, bool, str],
    distance: str = "l2",
) -> PointScore:
    """Describes the alignment of the views of each point.

    Args:
        values: Computes it, ``[N]``, of z, ``[N, V, *dims]``.
        saved: Computes what the backward of z needs.
        options: Whether view 0 alone is compared with each other one, whether views are of unit length, the backend.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        The score; a second derivative of "angular", which has none at equal and at opposite views, is refused.
    """
    anchor, normalize, _ = options

    def gradient(grad: Tensor, z: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.memkern.alignment_backward.default(grad, z, saved(z), *options, distance))

    def formula(z: Tensor) -> Tensor:
        if distance == "angular":
            raise _no_second_derivative()
        return _mean_distance(z, anchor, normalize, distance).to(torch.promote_types(z.dtype, torch.float32))

    return PointScore(values, gradient, formula)


def _no_second_derivative() -> ArgumentValueError:
    return ArgumentValueError(
        "Expected another distance than 'angular' where second derivatives are taken: equal views have none"
    )


def _mean_distance(z: Tensor, anchor: bool, normalize: bool, distance: str) -> Tensor:
    """Computes the mean distance between the views of each point, ``[N]`` float64; derivatives of a norm 0 are 0."""
    z = z.double().flatten(2)
    if normalize:
        z = z / _norm(z).clamp_min(1e-12).unsqueeze(2)
    pairs = torch.triu_indices(z.shape[1], z.shape[1], 1, device=z.device)
    first, second = pairs[0], pairs[1]
    if anchor:
        first, second = first[: z.shape[1] - 1], second[: z.shape[1] - 1]
    difference = z[:, first] - z[:, second]
    if distance == "l1":
        return difference.abs().sum(2).mean(1)
    return (difference.square().sum(2) / 2 if distance == "cosine" else _norm(difference)).mean(1)


def _norm(x: Tensor) -> Tensor:
    """Computes the norm over the last dimension; that of torch has NaN for the second derivative at 0."""
    squares = x.square().sum(-1)
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())


def is_transformed(x: Tensor) -> bool:
    """Tells whether a call on ``x``, ``[...]``, is inside a transform of ``torch.func`` or of forward-mode AD."""
    return not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
        or forward_ad._current_level >= 0
        or _is_batch_of_autograd(x)
    )


def _is_batch_of_autograd(x: Tensor) -> bool:
    """Tells whether ``x`` is a batch as ``torch.autograd`` makes it (``is_grads_batched``, ``vectorize``)."""
    return not torch._C._has_storage(x) and not torch._C._functorch.is_functorch_wrapped_tensor(x)


def is_differentiated(x: Tensor) -> bool:
    """Tells whether a call on ``x``, ``[...]``, is inside a transform, and a derivative is or may be taken of it."""
    if not is_transformed(x):
        return False
    innermost = x
    while torch._C._functorch.is_functorch_wrapped_tensor(innermost):
        innermost = torch._C._functorch.get_unwrapped(innermost)
    return innermost.requires_grad or _has_derivative(x)


def refuse_derivative(x: Tensor, name: str) -> None:
    """Requires that no transform asks for the derivative of a score of ``x``, ``[...]``, that has none.

    Args:
        x: The argument. An ordinary tensor that requires a gradient is fine: the result says that it has none.
        name: The argument's name, for the error.

    Raises:
        ArgumentValueError: If the call is inside ``torch.func.grad``, ``jvp`` or the like with respect to ``x``, which
            would make zeros of a derivative that is not known.
    """
    if is_transformed(x) and _has_derivative(x):
        raise ArgumentValueError(
            f"Expected `{name}` without a derivative to be taken: this score has none (alignment, sslmem, layermem and "
            "alignment_loss have); call .detach() first"
        )


def _has_derivative(x: Tensor) -> bool:
    """Looks through every wrapper of functorch for one that tracks a gradient or a tangent."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        if torch._C._functorch.is_gradtrackingtensor(x) and (x.requires_grad or _has_tangent(x)):
            return True
        x = torch._C._functorch.get_unwrapped(x)
    return _has_tangent(x)


def _has_tangent(x: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


def scores(z: Tensor, score: PointScore) -> Tensor:
    """Computes ``score`` of ``z``, ``[N, ...]``, with derivatives under every transform; ``[N]``."""
    return cast(Tensor, _Values.apply(z, score))


def gradient(grad: Tensor, z: Tensor, score: PointScore) -> Tensor:
    """Computes the gradient of ``sum(grad * score)``, of grad ``[N]`` and ``z`` ``[N, ...]``, differentiable itself."""
    return cast(Tensor, _Gradient.apply(grad, z, score))


def second_derivative(direction: Tensor, grad: Tensor, z: Tensor, score: PointScore) -> tuple[Tensor, Tensor]:
    """Computes the gradient of ``sum(direction * gradient)`` with respect to grad and z, by plain torch.

    Args:
        direction: Like ``z``.
        grad: ``[N]``, the gradient at the scores.
        z: ``[N, ...]``.
        score: The score.

    Returns:
        ``[N]`` and ``[N, ...]``.

    Raises:
        ArgumentValueError: If ``direction`` is a batch of ``torch.autograd.functional``, which cannot batch this.
    """
    if _is_batch_of_autograd(direction):
        raise ArgumentValueError(
            "Expected second derivatives with vectorize=False, or by torch.func.hessian: torch.autograd.functional "
            "cannot batch them"
        )
    pull = torch.func.vjp(lambda g, x: _of_formula(g, x, score), grad, z)[1]
    return cast("tuple[Tensor, Tensor]", pull(direction))


def second_order(
    score_of: Callable[..., PointScore],
) -> tuple[Callable[..., tuple[Tensor | None, ...]], Callable[..., None]]:
    """Makes the autograd of a registered gradient ``(grad, z, saved, *options)``: its backward and its context.

    Args:
        score_of: Makes the score of the options.

    Returns:
        What ``torch.library.register_autograd`` takes.
    """

    def setup_context(ctx: Context, inputs: tuple[object, ...], output: Tensor) -> None:
        grad, z, _, *options = inputs
        ctx.options = tuple(options)
        ctx.save_for_backward(grad, z)

    def backward(ctx: Context, direction: Tensor) -> tuple[Tensor | None, ...]:
        grad, z = ctx.saved_tensors
        of_grad, of_z = second_derivative(direction, grad, z, score_of(*ctx.options))
        return (of_grad, of_z, None, *[None] * len(ctx.options))

    return backward, setup_context


def _of_formula(grad: Tensor, z: Tensor, score: PointScore) -> Tensor:
    pull = torch.func.vjp(score.formula, z)[1]
    (found,) = pull(grad.to(torch.promote_types(z.dtype, torch.float32)))
    return cast(Tensor, found)


def _stacked(batch: int, dim: int | None, x: Tensor) -> Tensor:
    """Makes one stack of points of the batch that vmap has made of stacks."""
    x = x.expand(batch, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.reshape(batch * x.shape[1], *x.shape[2:])


def _tangents_of_outer_levels() -> AbstractContextManager[None]:
    """Lets ``torch.func.jvp`` inside of another see the other's tangents, which torch stops in a function's ``jvp``."""
    return cast("AbstractContextManager[None]", forward_ad._set_fwd_grad_enabled(True))


class _Values(torch.autograd.Function):
    """Scores of points; see the module."""

    @staticmethod
    def forward(z: Tensor, score: PointScore) -> Tensor:
        return score.values(z)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, PointScore], output: Tensor) -> None:
        z, ctx.score = inputs
        ctx.save_for_backward(z)
        ctx.save_for_forward(z)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None]:
        return gradient(grad, ctx.saved_tensors[0], ctx.score), None

    @staticmethod
    def jvp(ctx: Context, tangent: Tensor, _: None) -> Tensor:
        (z,) = ctx.saved_tensors
        accumulated = torch.promote_types(z.dtype, torch.float32)
        with _tangents_of_outer_levels():
            z = forward_ad.unpack_dual(z).primal
            slope = gradient(z.new_ones(z.shape[0], dtype=accumulated), z, ctx.score)
            return (slope.to(accumulated) * tangent.to(accumulated)).sum(list(range(1, z.dim())))

    @staticmethod
    def vmap(info: Batch, in_dims: tuple[int | None, None], z: Tensor, score: PointScore) -> tuple[Tensor, int]:
        stack = _stacked(info.batch_size, in_dims[0], z)
        return scores(stack, score).reshape(info.batch_size, len(stack) // info.batch_size), 0


class _Gradient(torch.autograd.Function):
    """Gradient of scores of points; see the module."""

    @staticmethod
    def forward(grad: Tensor, z: Tensor, score: PointScore) -> Tensor:
        return score.gradient(grad, z)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor, PointScore], output: Tensor) -> None:
        grad, z, ctx.score = inputs
        ctx.save_for_backward(grad, z)
        ctx.save_for_forward(grad, z)

    @staticmethod
    def backward(ctx: Context, direction: Tensor) -> tuple[Tensor, Tensor, None]:
        grad, z = ctx.saved_tensors
        return *second_derivative(direction, grad, z, ctx.score), None

    @staticmethod
    def jvp(ctx: Context, grad_tangent: Tensor | None, z_tangent: Tensor | None, _: None) -> Tensor:
        with _tangents_of_outer_levels():
            grad, z = (forward_ad.unpack_dual(each).primal for each in ctx.saved_tensors)
            found = torch.zeros_like(z)
            if grad_tangent is not None:
                found = found + gradient(grad_tangent, z, ctx.score)
            if z_tangent is not None:  # a Hessian is symmetric: its product with a tangent is that from the left
                found = found + second_derivative(z_tangent, grad, z, ctx.score)[1]
            return found

    @staticmethod
    def vmap(
        info: Batch, in_dims: tuple[int | None, int | None, None], grad: Tensor, z: Tensor, score: PointScore
    ) -> tuple[Tensor, int]:
        of_grad, of_z = (_stacked(info.batch_size, dim, x) for dim, x in zip(in_dims, (grad, z), strict=False))
        found = gradient(of_grad, of_z, score)
        return found.reshape(info.batch_size, len(found) // info.batch_size, *found.shape[1:]), 0
