"""Class sums: [points, units] means and labels -> [classes, units] sums."""

from __future__ import annotations

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.ops import LIBRARY
from memkern.reference.class_sums import class_sums as reference

# ---- schema and fake ----------------------------------------------------------------------------------------------

LIBRARY.define("class_sums(Tensor means, Tensor labels, SymInt classes, str backend) -> Tensor")


@torch.library.register_fake("memkern::class_sums", lib=LIBRARY)
def _fake(means: Tensor, labels: Tensor, classes: int, backend: str) -> Tensor:
    return means.new_empty((classes, means.shape[1]), dtype=torch.float64)


# ---- autograd: none -----------------------------------------------------------------------------------------------
# ---- backend table ------------------------------------------------------------------------------------------------


def _compiled(
    kernels: native.Kernels, where: object, means: Tensor, labels: Tensor, classes: int, sums: Tensor
) -> Tensor:
    means, labels = means.contiguous(), labels.contiguous()
    kernels.class_sums(
        where, means=means.data_ptr(), dtype=native.DTYPES[means.dtype], points=means.shape[0], units=means.shape[1],
        classes=classes, labels=labels.data_ptr(), sums=sums.data_ptr(),
    )  # fmt: skip
    return sums


def _cpu(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    sums = means.new_empty((classes, means.shape[1]), dtype=torch.float64)
    return _compiled(native.library(), torch.get_num_threads(), means, labels, classes, sums)


def _cuda(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    checks.same_device(means, labels, "means", "labels")
    sums = means.new_zeros((classes, means.shape[1]), dtype=torch.float64)  # the kernel adds to them
    return _compiled(native.cuda(), native.cuda_launch_context(means), means, labels, classes, sums)


def _reference(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    return reference(means, labels, classes=classes)


def _triton(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    from memkern.triton_kernels import class_sums as kernels

    checks.same_device(means, labels, "means", "labels")
    return kernels.class_sums(means, labels, classes)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(means: Tensor, labels: Tensor, classes: int, backend: str) -> Tensor:
    return dispatch.pick(backend, means.device, TABLE)(means, labels, classes)


LIBRARY.impl("class_sums", registered.checked(_run, registered.class_sums), "CompositeExplicitAutograd")

# ---- function -----------------------------------------------------------------------------------------------------


def class_sums(means: Tensor, labels: Tensor, *, classes: int, backend: str = "auto") -> Tensor:
    """Sums the unit means over the points of each class.

    Args:
        means: ``[N, U]`` float32 or float64, one row per point.
        labels: ``[N]`` int64 in [0, classes), on the device of ``means``; the caller has checked the values.
        classes: How many classes; one without a point sums to 0.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[classes, U]`` float64.

    Raises:
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch
        >>> from memkern.ops.class_sums import class_sums
        >>> class_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 0]), classes=3).flatten()
        tensor([5., 0., 2.], dtype=torch.float64)
    """
    bypass = dispatch.can_bypass_dispatcher(means)
    if not bypass:
        autodiff.refuse_derivative(means, "means")
    means = means.detach()
    run = _run if bypass else torch.ops.memkern.class_sums.default
    out: Tensor = run(means, labels, classes, backend)
    return out
