"""Alignment: [points, views, dims] -> mean l2 distance per point; forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.checks.values import Array, TensorLike
from memkern.ops import LIBRARY
from memkern.reference.alignment import alignment_backward as reference_backward
from memkern.reference.alignment import pair_distances, view_sums

# ---- schema and fake ----------------------------------------------------------------------------------------------
# `keep` asks for what the backward needs: [N, pairs] distances, then with `normalize` the [N, V] norms.
# `view_sums` asks for rows [N, V], halves [2, N] and errors [N]; without it they are [0, 0], [2, 0] and [0].
LIBRARY.define(
    "alignment(Tensor z, bool anchor, bool normalize, bool keep, str backend, bool view_sums=False, "
    'str distance="l2") -> (Tensor, Tensor, Tensor, Tensor, Tensor)'
)
LIBRARY.define(
    "alignment_backward(Tensor grad, Tensor z, Tensor saved, bool anchor, bool normalize, str backend, "
    'str distance="l2") -> Tensor'
)


@torch.library.register_fake("memkern::alignment", lib=LIBRARY)
def _fake(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, backend: str, view_sums: bool = False, distance: str = "l2"
) -> tuple[Tensor, ...]:
    dtype = native.accumulate_dtype(z.dtype)
    saved = z.new_empty(native.saved_shape(z, anchor, normalize, keep), dtype=dtype)
    return z.new_empty(z.shape[0], dtype=dtype), saved, *native.ViewSums.empty(z, view_sums)


@torch.library.register_fake("memkern::alignment_backward", lib=LIBRARY)
def _fake_backward(grad: Tensor, z: Tensor, *_: object) -> Tensor:
    return torch.empty_like(z)


# ---- autograd -----------------------------------------------------------------------------------------------------


def _setup_context(ctx: Any, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    z, anchor, normalize, ctx.keep, backend, _, distance = inputs
    ctx.options = anchor, normalize, backend, distance
    ctx.save_for_backward(z, output[1])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
    if not ctx.keep:
        raise RuntimeError("memkern::alignment was called with keep=False; its backward needs keep=True")
    grad_z = torch.ops.memkern.alignment_backward.default(grad, *ctx.saved_tensors, *ctx.options)
    return grad_z, None, None, None, None, None, None


torch.library.register_autograd("memkern::alignment", _backward, setup_context=_setup_context, lib=LIBRARY)


def _point_score(anchor: bool, normalize: bool, backend: str, distance: str = "l2") -> autodiff.PointScore:
    op = torch.ops.memkern.alignment.default
    return autodiff.alignment_score(
        values=lambda z: op(z, anchor, normalize, False, backend, False, distance)[0],
        saved=lambda z: op(z, anchor, normalize, True, backend)[1],
        options=(anchor, normalize, backend),
        distance=distance,
    )


_second, _setup_second = autodiff.second_order(_point_score)
torch.library.register_autograd("memkern::alignment_backward", _second, setup_context=_setup_second, lib=LIBRARY)


# ---- backend table ------------------------------------------------------------------------------------------------
# Sums over views are written to `sums`, if there is one.


def _compiled(
    kernels: native.Kernels, where: object, z: Tensor, anchor: bool, normalize: bool, keep: bool,
    sums: native.ViewSums | None, distance: str,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    z, dims, point_stride, view_stride = native.view_block(z)
    dtype = native.accumulate_dtype(z.dtype)
    points, views, *_ = z.shape
    out = z.new_empty(points, dtype=dtype)  # on the device of z, whatever the default device is
    saved = z.new_empty(native.saved_shape(z, anchor, normalize, keep), dtype=dtype) if keep else None
    kept = 0 if saved is None else saved.data_ptr()
    kernels.alignment(  # by keywords: a call with the dict of `compared_views` takes longer
        where, z=z.data_ptr(), dtype=native.DTYPES[z.dtype], points=points, views=views, dims=dims,
        point_stride=point_stride, view_stride=view_stride, pairs=anchor, distance=native.DISTANCES[distance],
        normalize=normalize, alignment=out.data_ptr(), saved=kept, rows=0 if sums is None else sums.rows.data_ptr(),
        halves=0 if sums is None else sums.halves.data_ptr(), errors=0 if sums is None else sums.errors.data_ptr(),
    )  # fmt: skip
    return out, saved


def _cpu(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor | None]:
    return _compiled(native.library(), torch.get_num_threads(), z, anchor, normalize, keep, sums, distance)


def _cuda(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor | None]:
    return _compiled(native.cuda(), native.cuda_launch_context(z), z, anchor, normalize, keep, sums, distance)


def _gradient_like(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finds what a backward kernel reads, where it writes, and what it returns: z, its gradient, the result."""
    # A kernel walks the dims of z and of its gradient in one order of memory; empty_like keeps it for dense views.
    out = torch.empty_like(z)
    if out.stride()[2:] == z.stride()[2:] and native.is_dense(z.shape[2:], z.stride()[2:]):
        return z, out, out
    z = z.contiguous()
    return z, torch.empty_like(z), out


def _compiled_backward(
    kernels: native.Kernels, where: object, grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool
) -> Tensor:
    grad, saved = grad.contiguous(), saved.contiguous()  # kept in names: the kernel reads their memory
    z, grad_z, out = _gradient_like(z)
    z, views = native.compared_views(z, anchor, normalize)
    kernels.alignment_backward(
        where, z=z.data_ptr(), **views, saved=saved.data_ptr(), grad=grad.data_ptr(), grad_z=grad_z.data_ptr(),
        grad_point_stride=grad_z.stride(0), grad_view_stride=grad_z.stride(1),
    )  # fmt: skip
    return out if grad_z is out else out.copy_(grad_z)


def _cpu_backward(grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool) -> Tensor:
    return _compiled_backward(native.library(), torch.get_num_threads(), grad, z, saved, anchor, normalize)


def _cuda_backward(grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool) -> Tensor:
    checks.one_device(z=z, grad=grad, saved=saved)
    return _compiled_backward(native.cuda(), native.cuda_launch_context(z), grad, z, saved, anchor, normalize)


def _reference(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor | None]:
    dtype, pairs = native.accumulate_dtype(z.dtype), "anchor" if anchor else "all"
    distances = pair_distances(z, pairs=pairs, normalize=normalize, distance=distance)
    saved = torch.empty(native.saved_shape(z, anchor, normalize, keep), dtype=dtype, device=z.device) if keep else None
    if saved is not None:
        saved[:, : distances.shape[1]] = distances
        if normalize:
            saved[:, distances.shape[1] :] = z.double().flatten(2).norm(dim=2)
    if sums is not None:
        for found, to in zip(view_sums(z, normalize=normalize, distance=distance), sums, strict=True):
            to.copy_(found)
    return distances.mean(1).to(dtype), saved


def _reference_backward(
    grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool, distance: str = "l2"
) -> Tensor:
    pairs = "anchor" if anchor else "all"
    return torch.empty_like(z).copy_(reference_backward(grad, z, pairs=pairs, normalize=normalize, distance=distance))


def _triton(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor]:
    from memkern.triton_kernels import alignment as kernels

    return kernels.alignment(z, anchor, normalize, keep, sums, distance)


def _triton_backward(grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool) -> Tensor:
    from memkern.triton_kernels import alignment_backward as kernels

    checks.one_device(z=z, grad=grad, saved=saved)
    return kernels.alignment_backward(grad, z, saved, anchor, normalize)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}
BACKWARD_TABLE = {
    "cpu": _cpu_backward, "triton": _triton_backward, "cuda": _cuda_backward, "reference": _reference_backward,
}  # fmt: skip


def _forward(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, backend: str, distance: str = "l2"
) -> tuple[Tensor, Tensor | None]:
    return dispatch.pick(backend, z.device, TABLE)(z, anchor, normalize, keep, None, distance)


def _run(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, backend: str, view_sums: bool = False, distance: str = "l2"
) -> tuple[Tensor, ...]:
    checks.all_pairs("anchor" if anchor else "all", view_sums)  # a kernel would read past the pairs of an anchor
    checks.distance(distance, normalize)
    sums = native.ViewSums.empty(z, view_sums)
    run = dispatch.pick(backend, z.device, TABLE)
    out, saved = run(z, anchor, normalize, keep, sums if view_sums else None, distance)
    return out, z.new_empty((0, 0), dtype=out.dtype) if saved is None else saved, *sums


def _run_backward(
    grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool, backend: str, distance: str = "l2"
) -> Tensor:
    if distance != "l2":  # no backend has kernels for these gradients: torch computes them, on the device of z
        return _reference_backward(grad, z, saved, anchor, normalize, distance)
    return dispatch.pick(backend, z.device, BACKWARD_TABLE)(grad, z, saved, anchor, normalize)


class _Differentiable(torch.autograd.Function):
    """Alignment with its gradient for ordinary eager calls, where the registered op keeps Python busy far longer."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, anchor: bool, normalize: bool, backend: str, distance: str) -> Tensor:
        out, saved = _forward(z, anchor, normalize, distance == "l2", backend, distance)  # others keep z alone
        ctx.save_for_backward(z, saved)
        ctx.options = anchor, normalize, backend, distance
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        z, saved = ctx.saved_tensors
        if torch.is_grad_enabled() or autodiff.is_transformed(grad):  # create_graph=True, or a batch of gradients
            return autodiff.gradient(grad, z, _point_score(*ctx.options)), None, None, None, None
        return _run_backward(grad, z, saved, *ctx.options), None, None, None, None


LIBRARY.impl("alignment", registered.checked(_run, registered.alignment), "CompositeExplicitAutograd")
LIBRARY.impl(
    "alignment_backward", registered.checked(_run_backward, registered.alignment_backward), "CompositeExplicitAutograd"
)


def repeat_alignment(
    z: Tensor, *, pairs: str, normalize: bool, view_sums: bool = False, distance: str = "l2"
) -> native.PreparedCall | None:
    """Prepares ``alignment`` for repeated calls by a tap: ``(alignment,)`` of memory that looks like that of ``z``.

    Args:
        z: ``[N, V, ...]`` representations that ``alignment`` has taken before.
        pairs: "all" pairs of views, or "anchor" for view 0 against each other view.
        normalize: Whether to bring each view to unit length first.
        view_sums: Whether the call also gives ``native.ViewSums``; of all pairs only.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        The call, or ``None`` where only the ordinary one will do: no CPU kernels, not on the CPU, views with gaps.
    """
    dense = native.is_dense(z.shape[2:], z.stride()[2:])  # asked first: another view would be copied
    if not dense or dispatch.why_not("cpu", z.device) or not dispatch.can_bypass_dispatcher(z):
        return None
    _, views = native.compared_views(z, pairs == "anchor", normalize, distance)
    dtype = native.accumulate_dtype(z.dtype)
    results = {"alignment": (z.shape[:1], dtype), **(native.ViewSums.shapes(z) if view_sums else {})}
    fields = {"z": 0, **views, "saved": 0, **dict.fromkeys(native.ViewSums._fields, 0)}
    return native.PreparedCall(native.library().alignment, fields, results, reads="z")


# ---- public function ----------------------------------------------------------------------------------------------


def alignment_with_views(z: Tensor, *, normalize: bool, distance: str, backend: str) -> tuple[Tensor, native.ViewSums]:
    """Computes the alignment over all pairs, and sums over the views; ``alignment_stats`` is public.

    Args:
        z: ``[N, V, *dims]`` representations that have been checked.
        normalize: Whether to bring each view to unit length first.
        distance: "l2", "l1", "cosine" or "angular".
        backend: "auto" or the name of a backend.

    Returns:
        ``[N]`` alignment; ``[N, V]`` rows, ``[2, N]`` halves and ``[N]`` standard errors.
    """
    autodiff.refuse_derivative(z, "z")
    z = z.detach() if z.requires_grad else z
    if not dispatch.can_bypass_dispatcher(z):
        op = torch.ops.memkern.alignment.default
        out, _, *found = op(z, False, normalize, False, backend, True, distance)
        return out, native.ViewSums(*found)
    sums = native.ViewSums.empty(z)
    return dispatch.pick(backend, z.device, TABLE)(z, False, normalize, False, sums, distance)[0], sums


def alignment(
    z: TensorLike,
    *,
    pairs: str = "all",
    normalize: bool = True,
    distance: str = "l2",
    backend: str = "auto",
) -> Array:
    r"""Computes the mean distance between the representations of the views of each point.

    .. math::
        a(x) = \frac{1}{|P|} \sum_{(i,j) \in P} \lVert \bar z_i - \bar z_j \rVert_2,
        \qquad \bar z = z / \max(\lVert z \rVert_2, 10^{-12})

    the alignment of arXiv 2401.12233 and arXiv 2409.19069, Eq. (1), estimated from V views. Distances are taken by
    direct differences, never from a matrix of inner products, which loses all digits on the near-identical views of
    memorized points. Differentiable; the gradient of a zero distance is 0, as that of ``torch.norm``, and so is
    that of equal elements in l1. Kernels compute the gradient of "l2"; that of the others is torch's, in float64.

    Args:
        z: ``[N, V, *dims]`` representations, V >= 2; float32, float64, bfloat16 or float16. A view's dims are taken as
            one flat vector. Any dense layout of a view is read in place (channels-last too); one with gaps is copied.
        pairs: "all" compares every pair of views; "anchor" compares view 0 with each other view, as the released
            scripts do with the un-augmented image.
        normalize: Whether to bring each view to unit length first. Without it an encoder with longer representations
            scores a larger alignment for no other reason.
        distance: "l2"; "l1", :math:`\lVert \bar z_i - \bar z_j \rVert_1` (unit length stays that of l2); or of
            directions "cosine", :math:`1 - \cos`, or "angular", :math:`\arccos(\cos) / \pi`, from the l2 distance d of
            the unit vectors as :math:`d^2 / 2` and :math:`2 \arcsin(d / 2) / \pi`, which keep the digits of
            near-identical views; those of App. C.8 of arXiv 2409.19069.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[N]`` distances, float64 for float64 input and float32 for every other, on the same device; numpy for numpy.
        A NaN in a view makes that point NaN and no other.

    Raises:
        TypeError: If ``z`` is no array or not floating.
        ValueError: If ``z`` has no views to compare, or an option is unknown.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> z = torch.tensor([[[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]]])  # one point, two views
        >>> memkern.alignment(z)
        tensor([0.2828])
    """
    z, was_numpy = checks.as_tensor(z, "z")
    checks.floating(z, "z")
    checks.strided(z, "z")
    checks.views_shape(z, "z")
    checks.one_of(pairs, "pairs", ("all", "anchor"))
    checks.one_of(backend, "backend", dispatch.NAMES)
    keep = z.requires_grad and torch.is_grad_enabled()
    if distance != "l2":
        checks.distance(distance, normalize)
    anchor, normalize = pairs == "anchor", bool(normalize)
    bypass = dispatch.can_bypass_dispatcher(z)
    if bypass and keep:
        out = _Differentiable.apply(z, anchor, normalize, backend, distance)
    elif bypass:
        out = _forward(z, anchor, normalize, keep, backend, distance)[0]
    elif autodiff.is_transformed(z):
        out = autodiff.scores(z, _point_score(anchor, normalize, backend, distance))
    else:
        out = torch.ops.memkern.alignment.default(z, anchor, normalize, keep, backend, False, distance)[0]
    return checks.as_numpy(out) if was_numpy else out


def alignment_loss(
    z: TensorLike,
    *,
    pairs: str = "all",
    normalize: bool = True,
    distance: str = "l2",
    reduction: str = "mean",
    backend: str = "auto",
) -> Array:
    """Computes the alignment as a term of a training loss: added it rewards alignment, subtracted it penalizes it.

    Args:
        z: ``[N, V, *dims]`` representations, V >= 2; float32, float64, bfloat16 or float16. A view's dims are taken as
            one flat vector. Any dense layout of a view is read in place; one with gaps is copied.
        pairs: "all" compares every pair of views; "anchor" compares view 0 with each other view.
        normalize: Whether to bring each view to unit length first. Without it a loss can be lowered by shorter
            representations alone.
        distance: "l2", "l1", "cosine" or "angular"; see ``alignment``.
        reduction: "mean" or "sum" over the points, or "none".
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        0-d, or ``[N]`` for "none": float64 for float64 input and float32 for every other, on the same device; numpy for
        numpy.

    Raises:
        TypeError: If ``z`` is no array or not floating.
        ValueError: If ``z`` has no views to compare, or an option is unknown.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> z = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
        >>> memkern.alignment_loss(z, normalize=False).backward()
        >>> z.grad
        tensor([[[ 0.7071, -0.7071],
                 [-0.7071,  0.7071]]])
    """
    checks.one_of(reduction, "reduction", ("mean", "sum", "none"))
    z, was_numpy = checks.as_tensor(z, "z")
    each = alignment(z, pairs=pairs, normalize=normalize, distance=distance, backend=backend)
    out = each if reduction == "none" else getattr(each, reduction)()
    return checks.as_numpy(out) if was_numpy else out
