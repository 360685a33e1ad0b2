"""Layer statistics: one read of a layer's activations -> alignment per point and unit means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.checks.values import Array, TensorLike
from memkern.ops import LIBRARY
from memkern.reference.layer_stats import layer_stats as reference
from memkern.reference.layer_stats import view_sums

# ---- schema and fake ----------------------------------------------------------------------------------------------

LIBRARY.define(
    "layer_stats(Tensor x, int unit_dim, bool anchor, bool normalize, bool keep, str backend, bool view_sums=False, "
    'str distance="l2") -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)'
)


@torch.library.register_fake("memkern::layer_stats", lib=LIBRARY)
def _fake(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, backend: str, view_sums: bool = False,
    distance: str = "l2",
) -> tuple[Tensor, ...]:  # fmt: skip
    return *_with_saved(_results(x, unit_dim, anchor, normalize, keep)), *native.ViewSums.empty(x, view_sums)


# ---- autograd: through the alignment ------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    x, _, ctx.anchor, ctx.normalize, ctx.keep, ctx.backend, _, ctx.distance = inputs
    ctx.save_for_backward(x, output[2])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None, None, None, None]:
    if not ctx.keep:
        raise RuntimeError("memkern::layer_stats was called with keep=False; its backward needs keep=True")
    x, saved = ctx.saved_tensors
    op = torch.ops.memkern.alignment_backward.default
    grad_x = op(grad, x, saved, ctx.anchor, ctx.normalize, ctx.backend, ctx.distance)
    return grad_x, None, None, None, None, None, None, None


torch.library.register_autograd("memkern::layer_stats", _backward, setup_context=_setup_context, lib=LIBRARY)


def _transformed(x: Tensor, unit_dim: int, anchor: bool, normalize: bool, backend: str, distance: str) -> list[Tensor]:
    """Computes alignment and unit means with derivatives, inside a transform of ``torch.func``."""
    op, dtype = torch.ops.memkern.layer_stats.default, native.accumulate_dtype(x.dtype)

    score = autodiff.alignment_score(
        values=lambda x: op(x, unit_dim, anchor, normalize, False, backend, False, distance)[0],
        saved=lambda x: op(x, unit_dim, anchor, normalize, True, backend)[2],
        options=(anchor, normalize, backend),
        distance=distance,
    )
    averaged = [dim for dim in range(1, x.dim()) if dim != unit_dim]
    return [autodiff.scores(x, score), x.double().mean(averaged).to(dtype)]


# ---- backend table ------------------------------------------------------------------------------------------------
# Sums over views are written to `sums`, if there is one.


def _fields(x: Tensor, unit_dim: int, anchor: bool, normalize: bool, distance: str) -> tuple[Tensor, native.Record]:
    """Finds the memory that a kernel reads, and the fields of its record that describe it."""
    x, views = native.compared_views(x, anchor, normalize, distance)
    return x, {"sizes": x.shape, "strides": x.stride(), "unit_dim": unit_dim, **views}


Found: TypeAlias = tuple[Tensor, Tensor, Tensor | None]
"""Alignment, unit means, and what the backward of the alignment needs, where it is kept."""


def _results(x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool) -> Found:
    """Makes the tensors a kernel writes."""
    dtype = native.accumulate_dtype(x.dtype)
    alignment = x.new_empty(x.shape[0], dtype=dtype)  # on the device of x, whatever the default device is
    means = alignment.new_empty(x.shape[0], x.shape[unit_dim])
    return alignment, means, alignment.new_empty(native.saved_shape(x, anchor, normalize, True)) if keep else None


def _with_saved(found: Found) -> tuple[Tensor, Tensor, Tensor]:
    """An op returns tensors alone: an empty one where nothing is kept."""
    alignment, means, saved = found
    return alignment, means, alignment.new_empty(0, 0) if saved is None else saved


def _addresses(sums: native.ViewSums | None) -> native.Record:
    """Lists the fields of a kernel's record that say where sums over views go."""
    if sums is None:
        return dict.fromkeys(native.ViewSums._fields, 0)
    return {name: to.data_ptr() for name, to in sums._asdict().items()}


def _cpu(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None,
    distance: str = "l2",
) -> Found:  # fmt: skip
    x, fields = _fields(x, unit_dim, anchor, normalize, distance)
    alignment, means, saved = _results(x, unit_dim, anchor, normalize, keep)
    native.library().layer_stats(
        torch.get_num_threads(), x=x.data_ptr(), **fields, alignment=alignment.data_ptr(),
        saved=0 if saved is None else saved.data_ptr(), means=means.data_ptr(), **_addresses(sums),
    )  # fmt: skip
    return alignment, means, saved


def _cuda_many(
    layers: Sequence[tuple[Tensor, int]], anchor: bool, normalize: bool, keep: bool,
    sums: native.ViewSums | None = None, distance: str = "l2",
) -> list[Found]:  # fmt: skip
    """Runs layers of one device, [(x, unit_dim), ...], in one call: up to 16 of one dtype and V a launch.

    ``sums`` is for a single layer.
    """
    results, records, blocks = [], [], []
    for x, unit_dim in layers:
        block, fields = _fields(x, unit_dim, anchor, normalize, distance)
        alignment, means, saved = _results(x, unit_dim, anchor, normalize, keep)
        records.append({
            "x": block.data_ptr(), **fields, "alignment": alignment.data_ptr(),
            "saved": 0 if saved is None else saved.data_ptr(), "means": means.data_ptr(), **_addresses(sums),
        })  # fmt: skip
        blocks.append(block)  # the kernels read its memory, and it may be a copy
        results.append((alignment, means, saved))
    if layers:
        native.cuda().layer_stats(native.cuda_launch_context(blocks[0]), layers=records)
    return results


def _cuda(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None,
    distance: str = "l2",
) -> Found:  # fmt: skip
    return _cuda_many([(x, unit_dim)], anchor, normalize, keep, sums, distance)[0]


def _reference(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None,
    distance: str = "l2",
) -> Found:  # fmt: skip
    dtype, pairs = native.accumulate_dtype(x.dtype), "anchor" if anchor else "all"
    alignment, means = reference(x, unit_dim=unit_dim, pairs=pairs, normalize=normalize, distance=distance)
    # The reference's backward starts again from x; what it would have kept is not read.
    saved = torch.zeros(native.saved_shape(x, anchor, normalize, keep), dtype=dtype, device=x.device)
    if sums is not None:
        for found, to in zip(view_sums(x, normalize=normalize, distance=distance), sums, strict=True):
            to.copy_(found)
    return alignment.to(dtype), means.to(dtype), saved


def _triton(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None,
    distance: str = "l2",
) -> Found:  # fmt: skip
    from memkern.triton_kernels import layer_stats as kernels

    return kernels.layer_stats(x, unit_dim, anchor, normalize, keep, sums, distance)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, backend: str, view_sums: bool = False,
    distance: str = "l2",
) -> tuple[Tensor, ...]:  # fmt: skip
    checks.all_pairs("anchor" if anchor else "all", view_sums)  # a kernel would read past the pairs of an anchor
    checks.distance(distance, normalize)
    sums = native.ViewSums.empty(x, view_sums)
    run = dispatch.pick(backend, x.device, TABLE)
    return *_with_saved(run(x, unit_dim, anchor, normalize, keep, sums if view_sums else None, distance)), *sums


LIBRARY.impl("layer_stats", registered.checked(_run, registered.layer_stats), "CompositeExplicitAutograd")


def repeat_layer_stats(
    x: Tensor, *, unit_dim: int, pairs: str, normalize: bool, view_sums: bool = False, distance: str = "l2"
) -> native.PreparedCall | None:
    """Prepares ``layer_stats`` for repeated calls by a tap: ``(alignment, unit_means)`` of memory like that of ``x``.

    Args:
        x: ``[N, V, ...]`` activations that ``layer_stats`` has taken before.
        unit_dim: The dimension of the units, not negative.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        view_sums: Whether the call also gives ``native.ViewSums``; of all pairs only.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        The call, or ``None`` where only the ordinary one will do: no CPU kernels, not on the CPU, views with gaps.
    """
    dense = native.is_dense(x.shape[2:], x.stride()[2:])  # asked first: another view would be copied
    if not dense or dispatch.why_not("cpu", x.device) or not dispatch.can_bypass_dispatcher(x):
        return None
    fields = {"x": 0, **_fields(x, unit_dim, pairs == "anchor", normalize, distance)[1], "saved": 0, **_addresses(None)}
    dtype = native.accumulate_dtype(x.dtype)
    results = {
        "alignment": (x.shape[:1], dtype),
        "means": ((x.shape[0], x.shape[unit_dim]), dtype),
        **(native.ViewSums.shapes(x) if view_sums else {}),
    }
    return native.PreparedCall(native.library().layer_stats, fields, results, reads="x")


# ---- public function ----------------------------------------------------------------------------------------------


class LayerStats(NamedTuple):
    """Statistics of one layer: alignment of each point, mean activation of each unit.

    Attributes:
        alignment: ``[N]``, the mean l2 distance between the (flattened) views of each point.
        unit_means: ``[N, U]``, the mean activation of each unit, over views and space.
    """

    alignment: Array
    unit_means: Array


class LayerViewStats(NamedTuple):
    """Statistics of one layer with ``view_sums=True``: those of ``LayerStats``, and sums over the views of each point.

    Attributes:
        alignment: ``[N]``, the mean l2 distance between the (flattened) views of each point.
        unit_means: ``[N, U]``, the mean activation of each unit, over views and space.
        rows: ``[N, V]``, the sum of the distances of each view to the other views of its point.
        halves: ``[2, N]``, the mean distance among the even views 0, 2, ... and among the odd views; NaN for a half of
            fewer than two views.
        stderr: ``[N]``, the standard error of the alignment over draws of the views; NaN below 3 views.
    """

    alignment: Array
    unit_means: Array
    rows: Array
    halves: Array
    stderr: Array


@overload
def layer_stats(
    activations: TensorLike, *, view_dim: int = ..., unit_dim: int = ..., pairs: str = ..., normalize: bool = ...,
    distance: str = ..., view_sums: Literal[False] = ..., backend: str = ...,
) -> LayerStats: ...  # fmt: skip


@overload
def layer_stats(
    activations: TensorLike, *, view_dim: int = ..., unit_dim: int = ..., pairs: str = ..., normalize: bool = ...,
    distance: str = ..., view_sums: bool, backend: str = ...,
) -> LayerStats | LayerViewStats: ...  # fmt: skip


def layer_stats(
    activations: TensorLike,
    *,
    view_dim: int = 1,
    unit_dim: int = 2,
    pairs: str = "all",
    normalize: bool = True,
    distance: str = "l2",
    view_sums: bool = False,
    backend: str = "auto",
) -> LayerStats | LayerViewStats:
    r"""Computes the alignment of each point and the mean activation of each unit in one read of a layer.

    .. math::
        a(x) = \frac{1}{|P|} \sum_{(i,j) \in P} \lVert \bar z_i - \bar z_j \rVert_2,
        \qquad \mu_u(x) = \frac{1}{V S} \sum_{v, s} x_{v, u, s}

    the alignment of arXiv 2409.19069, Eq. (1), of each view as one flat vector, and the unit means of its Eq. (5). The
    values are those of ``alignment`` and ``unit_means``; both together cost little more than the alignment alone.

    Args:
        activations: ``[N, V, U, *space]`` (or another place for U), V >= 2; float32, float64, bfloat16 or float16. Any
            dense layout of a view is read in place.
        view_dim: The dimension of the views.
        unit_dim: The dimension of the units. Tokens ``[N, V, T, U]``: -1.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        distance: "l2", "l1"; or of directions "cosine", 1 - cos, or "angular", arccos(cos) / pi; see ``alignment``.
        view_sums: Whether ``rows``, ``halves`` and ``stderr`` are wanted too, from the same read; of all pairs only.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``LayerStats(alignment [N], unit_means [N, U])``, float64 for float64 input and float32 for every other; with
        ``view_sums`` ``LayerViewStats``, which adds ``rows [N, V]``, ``halves [2, N]`` and ``stderr [N]`` as
        ``alignment_stats`` has them. Gradients flow through the alignment only.

    Raises:
        TypeError: If ``activations`` is no array or not floating, or a dimension is no int.
        ValueError: If a shape, dimension or option does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> stats = memkern.layer_stats(torch.tensor([[[3.0, 4.0], [4.0, 3.0]]]))  # 1 point, 2 views, 2 units
        >>> stats.alignment, stats.unit_means
        (tensor([0.2828]), tensor([[3.5000, 3.5000]]))
    """
    checks.one_of(pairs, "pairs", ("all", "anchor"))
    checks.all_pairs(pairs, view_sums)
    checks.one_of(backend, "backend", dispatch.NAMES)
    x, unit, was_numpy = _checked(activations, "activations", view_dim, unit_dim)
    keep = x.requires_grad and torch.is_grad_enabled()
    checks.distance(distance, normalize)
    bypass, anchor, normalize = dispatch.can_bypass_dispatcher(x), pairs == "anchor", bool(normalize)
    if bypass and not keep and not view_sums:
        found = list(dispatch.pick(backend, x.device, TABLE)(x, unit, anchor, normalize, False, None, distance)[:2])
    elif not bypass and not view_sums and autodiff.is_differentiated(x):
        found = _transformed(x, unit, anchor, normalize, backend, distance)
    else:
        autodiff.refuse_derivative(x, "activations")
        run = _run if not keep and bypass else torch.ops.memkern.layer_stats.default
        alignment, means, _, *sums = run(x, unit, anchor, normalize, keep, backend, bool(view_sums), distance)
        found = [alignment, means, *(sums if view_sums else ())]
    kind = LayerViewStats if view_sums else LayerStats
    return kind(*(checks.as_numpy(each) for each in found) if was_numpy else found)


def _checked(activations: Any, name: str, view_dim: int, unit_dim: int) -> tuple[Tensor, int, bool]:
    """Checks activations; returns them with views in dim 1, their unit dimension, and whether numpy was passed."""
    x, was_numpy = checks.as_tensor(activations, name)
    checks.floating(x, name)
    checks.strided(x, name)
    unit = checks.unit_dimension(x, view_dim, unit_dim)
    view = checks.dimension(view_dim, "view_dim", x)
    if view is not None and view != 1:
        x = x.movedim(view, 1)
        unit += unit < view  # the dimensions before the views move up by one
    checks.views_shape(x, name)
    return x, unit, was_numpy


def layer_stats_many(
    activations: Sequence[Tensor],
    *,
    view_dim: int = 1,
    unit_dim: int = 2,
    pairs: str = "all",
    normalize: bool = True,
    backend: str = "auto",
) -> list[LayerStats]:
    """Computes ``layer_stats`` of several layers, such as the taps of a model have gathered.

    On CUDA layers share launches, up to 16 layers of one dtype and number of views each, because launching a small
    layer's kernels takes longer than reading it. Every other backend takes layers one by one. The bits are those of
    ``layer_stats``. No gradient flows through the result.

    Args:
        activations: One tensor ``[N, V, U, *space]`` (or another place for U) per layer, V >= 2; float32, float64,
            bfloat16 or float16; all on one device. Any dense layout of a view is read in place.
        view_dim: The dimension of the views, of every layer.
        unit_dim: The dimension of the units, of every layer. Tokens ``[N, V, T, U]``: -1.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        One ``LayerStats`` per layer, in their order.

    Raises:
        TypeError: If an entry of ``activations`` is no array or not floating, or a dimension is no int.
        ValueError: If a shape, dimension or option does not fit.
        RuntimeError: If layers are on different devices, or the named backend cannot run here.

    Example:
        >>> import torch
        >>> from memkern.ops.layer_stats import layer_stats_many
        >>> [stats.unit_means.shape for stats in layer_stats_many([torch.ones(3, 2, 8), torch.ones(3, 2, 5, 4, 4)])]
        [torch.Size([3, 8]), torch.Size([3, 5])]
    """
    checks.one_of(pairs, "pairs", ("all", "anchor"))
    checks.one_of(backend, "backend", dispatch.NAMES)
    layers = []
    for index, layer in enumerate(activations):
        x, unit, _ = _checked(layer, f"activations[{index}]", view_dim, unit_dim)
        layers.append((x.detach(), unit))
        checks.same_device(layers[0][0], x, "activations[0]", f"activations[{index}]")
    anchor, unit_length = pairs == "anchor", bool(normalize)
    if layers and all(dispatch.can_bypass_dispatcher(x) for x, _ in layers):
        run = dispatch.pick(backend, layers[0][0].device, TABLE)
        many = _cuda_many if run is _cuda else lambda each, *options: [run(*layer, *options) for layer in each]
        return [LayerStats(*result[:2]) for result in many(layers, anchor, unit_length, False)]
    op = torch.ops.memkern.layer_stats.default
    return [LayerStats(*op(x, unit, anchor, unit_length, False, backend)[:2]) for x, unit in layers]
