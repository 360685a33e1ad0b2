"""Unit means: activations in any layout -> [points, units], one read, no copy.

The kernel sums tiles of [lanes, elements]. Which of the two is contiguous in memory the compiler sees from a stride of
1: the elements (NCHW maps), the units (channels-last, tokens, a matrix), or, with points as lanes, the points (a
transposed matrix). A lane with very many elements is split among programs, and a second launch adds the parts in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, vector, warps
from memkern.triton_kernels.memory import (
    accumulate_dtype,
    cdiv,
    loops,
    on_device_of,
    power_of_two,
    triton_accumulate_dtype,
)
from memkern.triton_kernels.unit_sums import lane_sums

OUTER_LOOPS = 3  # averaged dimensions besides the inner one; a layout with more is copied first

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _sum_lanes(
    x,
    out,  # [parts, points, units] float64 sums, or with PARTS == 1 the means [points, units] wide
    lanes,
    lane_stride,
    out_lane_stride,
    other_stride,
    out_other_stride,
    part_stride,
    lane_blocks,
    parts,
    count,  # elements that a lane averages
    blocks,  # blocks of a lane
    inner,
    inner_stride,
    size_1,
    stride_1,
    size_2,
    stride_2,
    stride_3,
    OUTER: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SPLIT: tl.constexpr,
    PER_PART: tl.constexpr,  # blocks
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
    TREE: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    part = program % parts
    lane = program // parts % lane_blocks * LANES + tl.arange(0, LANES)
    other = program // parts // lane_blocks
    first = part * PER_PART
    sums = lane_sums(
        x + other * other_stride, lane, lanes, lane_stride, first, tl.minimum(first + PER_PART, blocks),
        inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3, OUTER, ACTIVATION, BLOCK, TREE, WIDE,
    )  # fmt: skip
    at = out + part * part_stride + other * out_other_stride + lane * out_lane_stride
    if SPLIT:
        tl.store(at, sums, mask=lane < lanes)
    else:
        tl.store(at, (sums / count).to(WIDE), mask=lane < lanes)


@triton.jit
def _divide(
    sums,  # [parts, elements] float64
    means,  # [elements] wide
    elements,
    parts,
    count,
    BLOCK: tl.constexpr,
):
    at = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for part in range(parts):
        total += tl.load(sums + tl.cast(part, tl.int64) * elements + at, mask=at < elements, other=0.0)
    tl.store(means + at, (total / count).to(means.dtype.element_ty), mask=at < elements)


# ---- host ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lanes:
    """Sums of a launch: lanes side by side in memory, and the loops over what each averages."""

    points: bool  # whether the lanes are the points of one unit, not the units of one point
    inner: tuple[int, int]  # size and stride
    outer: tuple[tuple[int, int], ...]  # innermost first

    def arguments(self) -> tuple[int, ...]:
        """The loops as kernels take them: inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3."""
        (size_1, stride_1), (size_2, stride_2), (_, stride_3) = (*self.outer, *[(1, 0)] * OUTER_LOOPS)[:OUTER_LOOPS]
        return *self.inner, size_1, stride_1, size_2, stride_2, stride_3

    def count(self) -> int:
        """The elements that a lane averages."""
        count = self.inner[0]
        for size, _ in self.outer:
            count *= size
        return count


def lanes_of(x: Tensor, unit_dim: int) -> Lanes | None:
    """Finds how to walk the activations; None if they have too many loops."""
    averaged = [(x.shape[d], x.stride(d)) for d in range(1, x.dim()) if d != unit_dim]
    *outer, inner = [(1, 0), *loops(averaged)]
    outer = outer[:0:-1]  # innermost first, without the (1, 0)
    if len(outer) > OUTER_LOOPS:
        return None
    if inner == (1, 0) or inner[1] != 1:
        points = x.stride(0) == 1 and x.stride(unit_dim) != 1 and x.shape[0] >= 32  # a warp side by side
    else:
        points = False
    return Lanes(points, inner, tuple(outer))


def unit_means(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    """The forward of ``torch.ops.memkern.unit_means``.

    Args:
        x: Activations, dim 0 holds the points, any strides.
        unit_dim: The dimension of the units; every other is averaged.
        activation: "raw", "relu" or "abs".

    Returns:
        [N, U] wide.
    """
    points, units = x.shape[0], x.shape[unit_dim]
    means = torch.empty((points, units), dtype=accumulate_dtype(x.dtype), device=x.device)
    if means.numel() == 0:
        return means
    walk = lanes_of(x, unit_dim)
    if walk is None:
        x = x.contiguous()
        walk = lanes_of(x, unit_dim)
        assert walk is not None  # contiguous: at most one loop before the units and one after
    if walk.points:
        lanes, others, strides = points, units, (x.stride(0), units, x.stride(unit_dim), 1)
    else:
        lanes, others, strides = units, points, (x.stride(unit_dim), 1, x.stride(0), units)
    tile = tile_of(x.dtype, walk, lanes, setting("unit_means", "lanes"))
    blocks = max(1, cdiv(walk.inner[0], tile["BLOCK"]) * (walk.count() // max(1, walk.inner[0])))
    per_part = setting("unit_means", "blocks")
    parts, lane_blocks = cdiv(blocks, per_part), cdiv(lanes, tile["LANES"])
    out = torch.empty((parts, points, units), dtype=torch.float64, device=x.device) if parts > 1 else means
    with on_device_of(x):
        _sum_lanes[(others * lane_blocks * parts,)](
            x, out, lanes, *strides, points * units, lane_blocks, parts, walk.count(), blocks, *walk.arguments(),
            OUTER=len(walk.outer), ACTIVATION=activation, SPLIT=parts > 1, PER_PART=per_part,
            TREE=min(4, power_of_two(blocks)), WIDE=triton_accumulate_dtype(x.dtype), **tile,
            num_warps=warps(setting("unit_means", "lanes")),
        )  # fmt: skip
        if parts > 1:
            divide(out, means, walk.count())
    return means


def tile_of(dtype: torch.dtype, walk: Lanes, lanes: int, threads: int) -> dict[str, int]:
    """[LANES, BLOCK] elements at once: two 128-bit loads per thread, long side along what memory holds side by side."""
    tile = 2 * vector(dtype) * threads
    side = setting("unit_means", "side")
    inner = power_of_two(max(1, walk.inner[0]))
    lanes = power_of_two(lanes)
    most = max(tile // min(inner, side), 1) if walk.inner[1] == 1 else side if inner > 1 else tile
    width = min(lanes, most)
    return {"LANES": width, "BLOCK": min(inner, tile // width)}


def divide(sums: Tensor, means: Tensor, count: int) -> None:
    """Second launch: the sums [parts, N, U] to the means, in place."""
    block = setting("unit_means", "divide_block")
    _divide[(cdiv(means.numel(), block),)](sums, means, means.numel(), sums.shape[0], count, BLOCK=block)
