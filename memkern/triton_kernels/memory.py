"""Memory of a tensor as the host functions see it: its loops, its accumulating dtype, its device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import torch
import triton.language as tl
from torch import Tensor


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the accumulating and result dtype: float64 for float64, float32 for every other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def triton_accumulate_dtype(dtype: torch.dtype) -> tl.dtype:
    """Returns the accumulating dtype as kernels take it."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def cdiv(x: int, y: int) -> int:
    """Divides and rounds up; Triton's own function is made for kernels and slow on the host."""
    return -(-x // y)


def power_of_two(x: int) -> int:
    """Returns the smallest power of two that is at least x."""
    return 1 << max(0, x - 1).bit_length()


def loops(sizes_and_strides: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Finds the fewest (size, stride) loops that visit dimensions in the order of memory, outermost first.

    Dimensions of size 1 vanish, neighbours are merged where one runs into the next: views, height and width of a
    contiguous [N, U, V, H, W] become one loop.
    """
    merged: list[tuple[int, int]] = []
    dims = [(size, stride) for size, stride in sizes_and_strides if size != 1]
    for size, stride in sorted(dims, key=lambda dim: dim[1], reverse=True):
        if merged and merged[-1][1] == stride * size:
            size *= merged.pop()[0]
        merged.append((size, stride))
    return merged


def view_block(z: Tensor) -> tuple[Tensor, int]:
    """Prepares [N, V, *dims] for a kernel that wants each view to be one block of memory.

    A distance does not see the order of the dims, so any dense layout of a view is read in place. Only a view with gaps
    or overlap is copied.

    Returns:
        The tensor (the given one, or its copy) and its number of dims.
    """
    dims = math.prod(z.shape[2:])
    dense = dims < 2 or loops(zip(z.shape[2:], z.stride()[2:], strict=True)) == [(dims, 1)]
    return (z if dense else z.contiguous()), dims


def on_device_of(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes the tensor's GPU the current one: Triton launches there, on torch's current stream."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
