"""Loads the compiled library once and remembers why it could not; says which memory its kernels read directly."""

from __future__ import annotations

import functools
import importlib
import math
import os
from types import ModuleType

import torch  # first: its OpenMP runtime is then the only one in the process
from torch import Tensor

ISA_VARIABLE = "MEMKERN_ISA"
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
ACTIVATIONS = {"raw": 0, "relu": 1, "abs": 2}


@functools.cache
def load() -> tuple[ModuleType | None, str]:
    """Loads ``memkern._native``.

    The environment variable ``MEMKERN_ISA`` (avx512, avx2, baseline) forces an instruction set for the whole process.

    Returns:
        The module and an empty reason, or None and the reason.

    Raises:
        RuntimeError: If ``MEMKERN_ISA`` names an instruction set this processor or build does not have.
    """
    try:
        module = importlib.import_module("memkern._native")
    except ImportError as error:
        return None, f"the compiled library is missing ({error}); install memkern with `pip install .`"
    isa = os.environ.get(ISA_VARIABLE)
    if isa and not module.select_isa(isa):
        supported = ", ".join(module.supported_isas())
        raise RuntimeError(f"Expected {ISA_VARIABLE} to be one of {supported} on this processor, got {isa!r}")
    return module, ""


def library() -> ModuleType:
    """The loaded module; for callers that have asked ``load`` before."""
    module, reason = load()
    if module is None:
        raise RuntimeError(f"memkern: {reason}")
    return module


def wide(dtype: torch.dtype) -> torch.dtype:
    """The accumulating and result dtype: float64 for float64, float32 for every other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def saved_shape(z: Tensor, anchor: bool, normalize: bool, keep: bool) -> tuple[int, int]:
    """The shape of what alignment keeps for its backward: distances in pair order, then the norms of the views."""
    points, views = z.shape[:2]
    pairs = views - 1 if anchor else views * (views - 1) // 2
    return (points, pairs + (views if normalize else 0)) if keep else (0, 0)


def is_dense(sizes: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether these dimensions fill one block of memory without gaps or overlap, in whatever order."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(sizes, strides, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def view_block(z: Tensor) -> tuple[Tensor, int, int, int]:
    """Prepares [N, V, *dims] for a kernel that wants each view to be one block of memory.

    A distance does not see the order of the dims, so any dense layout of a view (channels-last, say) is read in place,
    and so are any strides of points and views, expanded ones too. Only a view with gaps or overlap is copied.

    Returns:
        The tensor (the given one, or its copy), its number of dims, and the strides of points and views.
    """
    if z.is_contiguous():
        dims = math.prod(z.shape[2:])
        return z, dims, z.shape[1] * dims, dims
    if not is_dense(z.shape[2:], z.stride()[2:]):
        z = z.contiguous()
    return z, math.prod(z.shape[2:]), z.stride(0), z.stride(1)
