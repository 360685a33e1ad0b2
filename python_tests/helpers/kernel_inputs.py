"""Inputs of kernels: families of representations, the same on every run, and the memory layouts they may come in."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def rng(*key: object) -> torch.Generator:
    """A generator seeded by the text of ``key``: the same numbers on every run, other numbers for every key."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Independent views: standard normal, drawn in float64 and rounded once."""
    return torch.randn(shape, generator=rng("randn", shape), dtype=torch.float64).to(dtype)


def relu_features(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: what an encoder gives; rectified features of a point, each view with 30 % noise."""
    noise = torch.randn(shape, generator=rng("noise", shape), dtype=torch.float64)
    base = torch.randn((shape[0], 1, *shape[2:]), generator=rng("base", shape), dtype=torch.float64)
    return (base + 0.3 * noise).relu().to(dtype)


def near_identical(*shape: int, eps: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: views of one vector, at relative distances of about ``eps``: what memorized points look like."""
    noise = torch.randn(shape, generator=rng("near", shape), dtype=torch.float64)
    base = torch.randn((shape[0], 1, *shape[2:]), generator=rng("base", shape), dtype=torch.float64)
    return (base + eps * noise).to(dtype)


def near_parallel(*shape: int, eps: float, spread: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: nearly one direction, but norms from 1 to 1 + ``spread``: where one-pass normalizing cancels."""
    norms = torch.linspace(1, 1 + spread, shape[1], dtype=torch.float64)
    return (near_identical(*shape, eps=eps, dtype=torch.float64) * norms.view(1, -1, *[1] * (len(shape) - 2))).to(dtype)


# The families of representations that alignment is checked on.
FAMILIES: dict[str, Callable[..., Tensor]] = {
    "randn": randn,
    "relu features": relu_features,
    "identical to 1e-3": lambda *shape, dtype: near_identical(*shape, eps=1e-3, dtype=dtype),
    "identical to 1e-5": lambda *shape, dtype: near_identical(*shape, eps=1e-5, dtype=dtype),
    "parallel to 3e-1, spread 0.5": lambda *shape, dtype: near_parallel(*shape, eps=3e-1, spread=0.5, dtype=dtype),
    "parallel to 1e-1, spread 1": lambda *shape, dtype: near_parallel(*shape, eps=1e-1, spread=1.0, dtype=dtype),
    "parallel to 1e-2, spread 0.1": lambda *shape, dtype: near_parallel(*shape, eps=1e-2, spread=0.1, dtype=dtype),
    "parallel to 1e-3, spread 0.1": lambda *shape, dtype: near_parallel(*shape, eps=1e-3, spread=0.1, dtype=dtype),
    "parallel to 1e-4, spread 1": lambda *shape, dtype: near_parallel(*shape, eps=1e-4, spread=1.0, dtype=dtype),
}

# ---- memory layouts -----------------------------------------------------------------------------------------------
# Each takes a tensor and returns one of equal shape and values in another memory. Memory that belongs to no element is
# NaN, so a kernel that reads it shows.


def in_order(x: Tensor, *order: int) -> Tensor:
    """Lays the dimensions out in memory in this order, outermost first."""
    inverse = sorted(range(x.dim()), key=lambda dim: order[dim])
    return x.permute(order).contiguous().permute(inverse)


def _gap(x: Tensor) -> float:
    """What lies beside the elements: NaN, or the largest byte."""
    return torch.nan if x.is_floating_point() else 255


def misaligned(x: Tensor) -> Tensor:
    """Contiguous, one element past an aligned address, with a NaN before and after."""
    memory = torch.full((x.numel() + 2,), _gap(x), dtype=x.dtype)
    return memory[1:-1].view(x.shape).copy_(x)


def gapped(x: Tensor) -> Tensor:
    """Every second element of the memory's last dimension."""
    memory = torch.full((*x.shape[:-1], 2 * x.shape[-1]), _gap(x), dtype=x.dtype)
    return memory[..., ::2].copy_(x)


def padded(x: Tensor) -> Tensor:
    """Three more rows of the second dimension in memory (views cut out of a larger batch), so points have gaps."""
    memory = torch.full((x.shape[0], x.shape[1] + 3, *x.shape[2:]), _gap(x), dtype=x.dtype)
    return memory[:, 1:-2].copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "misaligned": misaligned,
    "padded": padded,
    "gapped": gapped,
    "last dim outermost": lambda x: in_order(x, x.dim() - 1, *range(x.dim() - 1)),
    "points innermost": lambda x: in_order(x, *range(1, x.dim()), 0),
    "views outermost": lambda x: in_order(x, 1, 0, *range(2, x.dim())),
    "channels last": lambda x: in_order(x, 0, 1, *range(3, x.dim()), 2) if x.dim() > 2 else x.contiguous(),
    "reversed": lambda x: in_order(x, *reversed(range(x.dim()))),
}
