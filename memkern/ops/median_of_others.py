"""Median of the others: [points, units] means -> the median of each column without one copy of its largest value."""

from __future__ import annotations

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.ops import LIBRARY
from memkern.reference.median_of_others import median_of_others as reference

# ---- schema and fake ----------------------------------------------------------------------------------------------

LIBRARY.define("median_of_others(Tensor means, str backend) -> Tensor")


@torch.library.register_fake("memkern::median_of_others", lib=LIBRARY)
def _fake(means: Tensor, backend: str) -> Tensor:
    return means.new_empty(means.shape[1])


# ---- autograd: none -----------------------------------------------------------------------------------------------
# ---- backend table ------------------------------------------------------------------------------------------------


def _compiled(kernels: native.Kernels, where: object, means: Tensor) -> Tensor:
    means = means.contiguous()
    out = means.new_empty(means.shape[1])
    kernels.median_of_others(
        where, means=means.data_ptr(), dtype=native.DTYPES[means.dtype], points=means.shape[0], units=means.shape[1],
        point_stride=means.shape[1], median=out.data_ptr(),
    )  # fmt: skip
    return out


def _cpu(means: Tensor) -> Tensor:
    return _compiled(native.library(), torch.get_num_threads(), means)


def _cuda(means: Tensor) -> Tensor:
    return _compiled(native.cuda(), native.cuda_launch_context(means), means)


def _reference(means: Tensor) -> Tensor:
    return reference(means).to(means.dtype)


def _triton(means: Tensor) -> Tensor:
    from memkern.triton_kernels import median_of_others as kernels

    return kernels.median_of_others(means)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(means: Tensor, backend: str) -> Tensor:
    return dispatch.pick(backend, means.device, TABLE)(means)


LIBRARY.impl("median_of_others", registered.checked(_run, registered.median_of_others), "CompositeExplicitAutograd")

# ---- function -----------------------------------------------------------------------------------------------------


def median_of_others(means: Tensor, *, backend: str = "auto") -> Tensor:
    """Computes the median over the points of each unit's mean activations, its largest one left out.

    The centre that the released scripts use (arXiv 2409.19069, appendix C.1) where Eq. (7) has the mean.

    Args:
        means: ``[N, U]`` float32 or float64 with N >= 2, one row per point.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[U]``, of the dtype of ``means``; of two middle values their mean; NaN for a column with a NaN.

    Raises:
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch
        >>> from memkern.ops.median_of_others import median_of_others
        >>> median_of_others(torch.tensor([[0.0], [2.0], [1.0], [8.0]]))
        tensor([1.])
    """
    bypass = dispatch.can_bypass_dispatcher(means)
    if not bypass:
        autodiff.refuse_derivative(means, "means")
    means = means.detach()
    run = _run if bypass else torch.ops.memkern.median_of_others.default
    out: Tensor = run(means, backend)
    return out
