"""Unit means: activations in any layout -> [points, units], averaged over views and space."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.checks.values import Array, TensorLike
from memkern.ops import LIBRARY
from memkern.reference.unit_means import unit_means as reference

# ---- schema and fake ----------------------------------------------------------------------------------------------

LIBRARY.define("unit_means(Tensor x, int unit_dim, str activation, str backend) -> Tensor")


@torch.library.register_fake("memkern::unit_means", lib=LIBRARY)
def _fake(x: Tensor, unit_dim: int, activation: str, backend: str) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[unit_dim]), dtype=native.accumulate_dtype(x.dtype))


# ---- autograd: none; a metric of activations, differentiable training terms are `alignment`'s job -------------------
# ---- backend table ------------------------------------------------------------------------------------------------


def _compiled(kernels: native.Kernels, where: object, x: Tensor, unit_dim: int, activation: str) -> Tensor:
    out = x.new_empty((x.shape[0], x.shape[unit_dim]), dtype=native.accumulate_dtype(x.dtype))
    kernels.unit_means(
        where, x=x.data_ptr(), dtype=native.DTYPES[x.dtype], activation=native.ACTIVATIONS[activation], sizes=x.shape,
        strides=x.stride(), unit_dim=unit_dim, means=out.data_ptr(),
    )  # fmt: skip
    return out


def _cpu(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    return _compiled(native.library(), torch.get_num_threads(), x, unit_dim, activation)


def _cuda(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    return _compiled(native.cuda(), native.cuda_launch_context(x), x, unit_dim, activation)


def _reference(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    return reference(x, unit_dim=unit_dim, activation=activation).to(native.accumulate_dtype(x.dtype))


def _triton(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    from memkern.triton_kernels import unit_means as kernels

    return kernels.unit_means(x, unit_dim, activation)


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(x: Tensor, unit_dim: int, activation: str, backend: str) -> Tensor:
    return dispatch.pick(backend, x.device, TABLE)(x, unit_dim, activation)


LIBRARY.impl("unit_means", registered.checked(_run, registered.unit_means), "CompositeExplicitAutograd")

# ---- public function ----------------------------------------------------------------------------------------------


def unit_means(
    activations: TensorLike,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    activation: str = "raw",
    backend: str = "auto",
) -> Array:
    r"""Computes the mean activation of each unit for each point, over views and space, in one pass and without a copy.

    .. math:: \mu_u(x) = \frac{1}{V S} \sum_{v, s} \mathrm{act}_u(x_v)_s

    arXiv 2409.19069, Eq. (5): a unit is a channel of a convolution (S positions) or a neuron of a linear layer (S
    tokens, class token included).

    Args:
        activations: ``[N, ..., U, ...]``, dim 0 holds the points; float32, float64, bfloat16 or float16. Contiguous,
            channels-last, token and every other dense permuted layout is read in place, at most 9 dimensions.
        view_dim: The dimension of the views, None if there are none.
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1.
        activation: "raw", "relu" or "abs", applied to each element before averaging.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[N, U]``, float64 for float64 input and float32 for every other, on the same device; numpy for numpy. No
        gradient flows through it.

    Raises:
        TypeError: If ``activations`` is no array or not floating, or a dimension is no int.
        ValueError: If a shape, dimension or option does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> maps = torch.arange(8.0).reshape(1, 2, 2, 2)  # one point, two units, 2 x 2 positions
        >>> memkern.unit_means(maps)
        tensor([[1.5000, 5.5000]])
    """
    x, was_numpy = checks.as_tensor(activations, "activations")
    checks.floating(x, "activations")
    checks.strided(x, "activations")
    unit = checks.unit_dimension(x, view_dim, unit_dim)
    checks.averaged_elements(x, unit)
    checks.one_of(activation, "activation", ("raw", "relu", "abs"))
    checks.one_of(backend, "backend", dispatch.NAMES)
    bypass = dispatch.can_bypass_dispatcher(x)
    if not bypass:
        autodiff.refuse_derivative(x, "activations")
    x = x.detach()
    run = _run if bypass else torch.ops.memkern.unit_means.default
    out = run(x, unit, activation, backend)
    return checks.as_numpy(out) if was_numpy else out


def read_unit_means(x: Tensor, unit_dim: int, activation: str, backend: str) -> Tensor:
    """Finds the unit means of checked activations for a caller that only reads them: a matrix is its own.

    Args:
        x: ``[N, ..., U, ...]``, dim 0 holds the points, any dtype and layout of ``unit_means``.
        unit_dim: The dimension of the units.
        activation: "raw", "relu" or "abs".
        backend: As of ``unit_means``.

    Returns:
        ``[N, U]`` as of ``unit_means``; it may share the memory of ``x``.

    Raises:
        RuntimeError: If the named backend cannot run here.
    """
    is_own_mean = x.dim() == 2 and activation == "raw" and x.dtype in (torch.float32, torch.float64)
    if is_own_mean and dispatch.can_bypass_dispatcher(x):
        return x
    return cast(Tensor, unit_means(x, unit_dim=unit_dim, activation=activation, backend=backend))
