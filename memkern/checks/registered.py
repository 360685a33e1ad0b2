"""Checks of registered ops (``torch.ops.memkern.*``) that are called directly; public functions have checked before.

A kernel reads the memory that sizes and numbers describe. Whoever calls an op past its function, a program that was
exported or traced with other sizes say, gets a sentence and never a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memkern.checks import values, views
from memkern.errors import ArgumentTypeError, ArgumentValueError

Result = TypeVar("Result")


def checked(run: Callable[..., Result], check: Callable[..., None]) -> Callable[..., Result]:
    """Makes the implementation of a registered op: its arguments are checked, then it runs."""

    def implementation(*arguments: object, **others: object) -> Result:
        _no_tangent([*arguments, *others.values()])
        check(*arguments, **others)
        return run(*arguments, **others)

    return implementation


def _no_tangent(argument: object) -> None:
    """Refuses a dual tensor, whose tangent a kernel would drop without a word."""
    if isinstance(argument, list | tuple):
        for each in argument:
            _no_tangent(each)
    elif isinstance(argument, Tensor) and forward_ad._current_level >= 0 and _has_tangent(argument):
        raise ArgumentValueError(
            "Expected tensors without a tangent: a registered op knows no forward derivative; memkern's functions of "
            "the same names have it where it exists, and .detach() drops it"
        )


def _has_tangent(x: Tensor) -> bool:
    try:
        return forward_ad.unpack_dual(x).tangent is not None
    except RuntimeError:  # traced by torch.func.linearize: memkern's functions took the tangent off before
        return False


def _dense(x: Tensor, name: str) -> None:
    values.floating(x, name)
    values.strided(x, name)


def _shape(x: Tensor, name: str, wanted: Sequence[int], like: Tensor) -> None:
    if list(x.shape) != list(wanted):
        raise ArgumentValueError(f"Expected `{name}` to have shape {list(wanted)}, got {list(x.shape)}")
    values.same_device(x, like, name, "the first argument")


def _dtype(x: Tensor, name: str, wanted: torch.dtype) -> None:
    if x.dtype != wanted:
        raise ArgumentTypeError(f"Expected `{name}` to be {wanted}, got {x.dtype}")


def _units(x: Tensor, unit_dim: int, name: str, least: int) -> None:
    if not least <= unit_dim < x.dim() <= 9:
        raise ArgumentValueError(
            f"Expected `unit_dim` in [{least}, dimensions of `{name}`), of at most 9 dimensions, got {unit_dim} and "
            f"shape {list(x.shape)}"
        )


def alignment(z: Tensor, *_: object, **others: object) -> None:
    """Requires views to compare: ``z`` ``[N, V, *dims]`` floating."""
    _dense(z, "z")
    values.views_shape(z, "z")


def alignment_backward(
    grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool, *_: object, **others: object
) -> None:
    """Requires ``grad`` ``[N]``, ``z`` ``[N, V, *dims]``, and the forward's ``saved`` ``[N, numbers]``."""
    alignment(z)
    points, count = z.shape[:2]
    pairs = count - 1 if anchor else count * (count - 1) // 2
    accumulated = torch.float64 if z.dtype == torch.float64 else torch.float32
    for x, name, shape in ((grad, "grad", (points,)), (saved, "saved", (points, pairs + (count if normalize else 0)))):
        _dense(x, name)
        _shape(x, name, shape, z)
        _dtype(x, name, accumulated)


def layer_stats(x: Tensor, unit_dim: int, *_: object, **others: object) -> None:
    """Requires views to compare, and their units: ``x`` ``[N, V, ..., U, ...]`` floating."""
    _dense(x, "x")
    values.views_shape(x, "x")
    _units(x, unit_dim, "x", 2)


def unit_means(x: Tensor, unit_dim: int, activation: str, *_: object, **others: object) -> None:
    """Requires activations ``x`` ``[N, ..., U, ...]`` floating, and a known function of them."""
    _dense(x, "x")
    _units(x, unit_dim, "x", 1)
    values.averaged_elements(x, unit_dim, "x")
    values.one_of(activation, "activation", ("raw", "relu", "abs"))


def selectivity(x: Tensor, unit_dim: int, activation: str, order: Tensor | None, *_: object, **others: object) -> None:
    """Requires activations ``x`` ``[N, ..., U, ...]``, N >= 1, and the order of the points: ``[N]`` of [0, N)."""
    unit_means(x, unit_dim, activation)
    values.at_least_one_point(x.shape[0], "x")
    if order is not None:
        _dtype(order, "order", torch.int64)
        values.strided(order, "order")
        _shape(order, "order", x.shape[:1], x)
        if values.readable(order):
            _within(order, "order", x.shape[0])


def _within(x: Tensor, name: str, bound: int) -> None:
    least, most = (int(each) for each in torch.aminmax(x))
    if least < 0 or most >= bound:
        raise ArgumentValueError(f"Expected `{name}` in [0, {bound}), got values from {least} to {most}")


def class_sums(means: Tensor, labels: Tensor, classes: int, *_: object, **others: object) -> None:
    """Requires ``means`` ``[N, U]`` floating and ``labels`` ``[N]`` int64 in [0, classes), not seen while traced."""
    _dense(means, "means")
    if means.dim() != 2:
        raise ArgumentValueError(f"Expected `means` to have shape [N, U], got {list(means.shape)}")
    if classes < 0:
        raise ArgumentValueError(f"Expected `classes` to be at least 0, got {classes}")
    _dtype(labels, "labels", torch.int64)
    values.strided(labels, "labels")
    _shape(labels, "labels", means.shape[:1], means)
    if labels.numel() and values.readable(labels):
        values.label_range(labels, classes)


def median_of_others(means: Tensor, *_: object, **others: object) -> None:
    """Requires ``means`` ``[N, U]`` floating, N >= 2."""
    _dense(means, "means")
    if means.dim() != 2:
        raise ArgumentValueError(f"Expected `means` to have shape [N, U], got {list(means.shape)}")
    values.at_least_two_points(means.shape[0], "means")


def pointwise_stats(
    x: Tensor, functions: Sequence[str], moments: Sequence[Tensor | None], epsilons: Sequence[float], unit_dim: int,
    *_: object, **others: object,
) -> None:  # fmt: skip
    """Requires ``x`` ``[N, V, ..., U, ...]`` float32, one or two layers, and four moments ``[U]`` of each."""
    values.float32(x, "x")
    layer_stats(x, unit_dim)
    values.length(functions, "functions", 1, 2)
    values.length(moments, "moments", 4 * len(functions), 4 * len(functions))
    values.length(epsilons, "epsilons", len(functions), len(functions))
    for index, function in enumerate(functions):
        values.one_of(function, f"functions[{index}]", ("batch_norm", "relu", "gelu"))
        needed = 2 if function == "batch_norm" else 0
        for at, moment in enumerate(moments[4 * index : 4 * index + 4]):
            if moment is not None or at < needed:
                values.one_per_unit(moment, f"moments[{4 * index + at}]", x.shape[unit_dim])
            if moment is not None:
                values.strided(moment, f"moments[{4 * index + at}]")
                values.same_device(x, moment, "x", f"moments[{4 * index + at}]")


def views_table(columns: int, bounds: Sequence[tuple[float, float]], blur: int) -> Callable[..., None]:
    """Makes the check of ``views`` for tables of ``columns`` parameters within ``bounds``; ``blur`` is its step."""

    def check(images: Sequence[Tensor], params: Tensor, hidden: Tensor | None, *request: object) -> None:
        height, width, patch, stages, _, blur_size, mean, std, dtype, *_ = request
        values.length(images, "images", 1, 2**31)
        for index, batch in enumerate(images):
            if batch.dtype not in (torch.uint8, torch.float32):
                raise ArgumentTypeError(f"Expected `images[{index}]` to be uint8 or float32, got {batch.dtype}")
            values.strided(batch, f"images[{index}]")
            views.images(batch, f"images[{index}]")
            if batch.dtype != images[0].dtype or batch.shape[1] != images[0].shape[1]:
                raise ArgumentValueError(f"Expected `images[{index}]` with dtype and channels of `images[0]`")
            values.same_device(images[0], batch, "images[0]", f"images[{index}]")
        values.strided(params, "params")
        values.same_device(images[0], params, "images[0]", "params")
        views.params(params, images, columns, bounds)
        size = views.height_width((height, width), "height, width")
        if hidden is not None:
            edge = views.count(patch, "patch")
            values.strided(hidden, "hidden")
            views.masks(hidden, params, size, edge, 0.0)
            values.same_device(images[0], hidden, "images[0]", "hidden")
        if blur_size:
            views.odd(blur_size, "blur_size")
            views.blur_fits(size, views.count(blur_size, "blur_size"))
        elif values.readable(params) and params.numel() and bool((params[..., 6::2] == blur).any()):
            raise ArgumentValueError("Expected `blur_size` of 1 or more with `params` that blur, got 0")
        views.count(stages, "stages")
        views.per_channel(mean, "mean", -views.LARGEST, views.LARGEST)
        views.per_channel(std, "std", 1 / views.LARGEST, views.LARGEST)
        views.output_dtype(dtype)

    return check
