"""Selectivity: activations -> per-unit state (peak, index, rest, minimum), in one pass over the activations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.ops import LIBRARY
from memkern.reference.selectivity import selectivity as reference

States = tuple[Tensor, Tensor, Tensor, Tensor]

# ---- schema and fake ----------------------------------------------------------------------------------------------
# `order`: the point visited at each position. Ties and sums follow it, so points given in any order, visited in the
# order of their ids, give the same bits.

LIBRARY.define(
    "selectivity(Tensor x, int unit_dim, str activation, Tensor? order, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.register_fake("memkern::selectivity", lib=LIBRARY)
def _fake(x: Tensor, unit_dim: int, activation: str, order: Tensor | None, backend: str) -> States:
    units, dtype = x.shape[unit_dim], native.accumulate_dtype(x.dtype)
    return (
        x.new_empty(units, dtype=dtype),
        x.new_empty(units, dtype=torch.int64),
        x.new_empty(units, dtype=torch.float64),
        x.new_empty(units, dtype=dtype),
    )


# ---- autograd: none -----------------------------------------------------------------------------------------------
# ---- backend table ------------------------------------------------------------------------------------------------


def _compiled(
    kernels: native.Kernels, where: object, x: Tensor, unit_dim: int, activation: str, order: Tensor | None
) -> States:
    units, dtype = x.shape[unit_dim], native.accumulate_dtype(x.dtype)
    peak, minimum = x.new_empty(units, dtype=dtype), x.new_empty(units, dtype=dtype)
    index, rest = x.new_empty(units, dtype=torch.int64), x.new_empty(units, dtype=torch.float64)
    order = None if order is None else order.contiguous()
    kernels.selectivity(
        where, x=x.data_ptr(), dtype=native.DTYPES[x.dtype], activation=native.ACTIVATIONS[activation], sizes=x.shape,
        strides=x.stride(), unit_dim=unit_dim, order=0 if order is None else order.data_ptr(), peak=peak.data_ptr(),
        index=index.data_ptr(), rest=rest.data_ptr(), minimum=minimum.data_ptr(),
    )  # fmt: skip
    return peak, index, rest, minimum


def _cpu(x: Tensor, unit_dim: int, activation: str, order: Tensor | None) -> States:
    return _compiled(native.library(), torch.get_num_threads(), x, unit_dim, activation, order)


def _cuda(x: Tensor, unit_dim: int, activation: str, order: Tensor | None) -> States:
    if order is not None:
        checks.same_device(x, order, "x", "order")
    return _compiled(native.cuda(), native.cuda_launch_context(x), x, unit_dim, activation, order)


def _reference(x: Tensor, unit_dim: int, activation: str, order: Tensor | None) -> States:
    x = x if order is None else x[order]
    peak, index, rest, minimum = reference(x, unit_dim=unit_dim, activation=activation)
    dtype = native.accumulate_dtype(x.dtype)
    return peak.to(dtype), index, rest, minimum.to(dtype)


def _triton(x: Tensor, unit_dim: int, activation: str, order: Tensor | None) -> States:
    from memkern.triton_kernels import selectivity as kernels

    if order is not None:
        checks.same_device(x, order, "x", "order")
    return kernels.selectivity(x, unit_dim, activation, order)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(x: Tensor, unit_dim: int, activation: str, order: Tensor | None, backend: str) -> States:
    return dispatch.pick(backend, x.device, TABLE)(x, unit_dim, activation, order)


LIBRARY.impl("selectivity", registered.checked(_run, registered.selectivity), "CompositeExplicitAutograd")

# ---- function -----------------------------------------------------------------------------------------------------


class SelectivityState(NamedTuple):
    """State of each unit after some points; states of disjoint sets of points can be merged.

    Attributes:
        peak: ``[U]``, the largest per-point mean; NaN once any mean was NaN.
        index: ``[U]`` int64, the dataset id of that point, the lowest on ties; of the first NaN if any.
        rest: ``[U]`` float64, the sum of the means of all the other points.
        minimum: ``[U]``, the smallest per-point mean.
        count: How many points.
    """

    peak: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index on purpose: the field's name
    rest: Tensor
    minimum: Tensor
    count: int  # type: ignore[assignment]


def selectivity(
    x: Tensor,
    *,
    unit_dim: int = 1,
    activation: str = "raw",
    ids: Tensor | None = None,
    backend: str = "auto",
) -> SelectivityState:
    """Computes the state of each unit over the points of ``x``, straight from the activations.

    Args:
        x: Activations ``[N, ..., U, ...]``, N >= 1; every dimension but dim 0 (points) and ``unit_dim`` is averaged.
        unit_dim: The dimension of the units, in [1, x.dim()).
        activation: "raw", "relu" or "abs", applied to each element before averaging.
        ids: ``[N]`` int64 dataset ids on the device of ``x``; None means 0, 1, 2, ...
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        The state; ``rest`` is summed in the order of the ids.

    Raises:
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch
        >>> from memkern.ops.selectivity import selectivity
        >>> state = selectivity(torch.tensor([[0.0, 2.0], [8.0, 1.0]]))
        >>> state.peak.tolist(), state.index.tolist(), state.rest.tolist()
        ([8.0, 2.0], [1, 0], [0.0, 1.0])
    """
    checks.one_of(backend, "backend", dispatch.NAMES)
    bypass = dispatch.can_bypass_dispatcher(x)
    if not bypass:
        autodiff.refuse_derivative(x, "activations")
    x = x.detach()
    order = None if ids is None else ids.argsort(stable=True)
    run = _run if bypass else torch.ops.memkern.selectivity.default
    peak, position, rest, minimum = run(x, unit_dim, activation, order, backend)
    index = position if ids is None or order is None else ids[order[position]]
    return SelectivityState(peak, index, rest, minimum, x.shape[0])
