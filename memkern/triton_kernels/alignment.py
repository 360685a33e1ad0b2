"""Alignment: the mean l2 distance over pairs of views of each point, in one pass over memory.

Two launches. `_sum_pairs` reads every element: one program per point and chunk of dims leaves the sums of that chunk.
`_finish` adds the chunks of a point in order and makes distances of the sums; where a sum cannot be trusted it reads
the two views again, in float64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.exact import exact_distance, exact_norm
from memkern.triton_kernels.launches import registers, setting, vector, warps
from memkern.triton_kernels.memory import on_device_of, triton_wide, view_block, wide
from memkern.triton_kernels.pair_sums import store_pair_sums

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _sum_pairs(
    z,  # [points, views, dims]
    sums,  # [points, chunks, pairs + views] float64
    dims,
    views,
    pairs,
    chunks,
    point_stride,
    view_stride,
    ANCHOR: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    point, first = program // chunks, program % chunks * CHUNK
    store_pair_sums(
        z + point * point_stride, sums + program * (pairs + views), views, pairs, view_stride,
        first, first + CHUNK, dims, ANCHOR, ROWS, LANES, VECTOR, WIDE,
    )  # fmt: skip


@triton.jit
def _finish(
    z,  # [points, views, dims]
    sums,  # [points, chunks, pairs + views] float64
    alignment,  # [points] wide
    saved,  # [points, pairs + views if NORMALIZE], wide
    dims,
    views,
    pairs,
    chunks,
    point_stride,
    view_stride,
    ANCHOR: tl.constexpr,
    NORMALIZE: tl.constexpr,
    KEEP: tl.constexpr,
    WIDE: tl.constexpr,
    VIEWS: tl.constexpr,  # power of two >= views
    CHUNKS: tl.constexpr,  # chunks added at once
    BLOCK: tl.constexpr,
):
    point = tl.cast(tl.program_id(0), tl.int64)
    z += point * point_stride
    sums += point * chunks * (pairs + views)
    saved += point * (pairs + views if NORMALIZE else pairs)
    b = tl.cast(tl.arange(0, VIEWS), tl.int64)

    if NORMALIZE:
        squared_norm = _add_chunks(sums, pairs + b, b < views, pairs + views, chunks, CHUNKS)
        norm = tl.sqrt(squared_norm)
        # 1.001: too close to the clamp for a sum of floats to tell on which side
        vague = (b < views) & ~(_in_range(squared_norm, WIDE) & (squared_norm > 1.001e-24)) & ~_is_nan(squared_norm)
        if _any(vague):
            for v in range(views):
                if _any(vague & (b == v)):
                    norm = tl.where(b == v, exact_norm(z + tl.cast(v, tl.int64) * view_stride, dims, WIDE, BLOCK), norm)
        divisor = tl.where(norm < 1e-12, 1e-12, norm)  # not tl.maximum: NaN stays
        if KEEP:
            tl.store(saved + pairs + b, norm.to(WIDE), mask=b < views)

    total = tl.zeros([VIEWS], tl.float64)
    for a in range(0, 1 if ANCHOR else views - 1):
        at = tl.cast(a, tl.int64) * (2 * views - a - 1) // 2 + b - a - 1  # of pair (a, b)
        pair = (b > a) & (b < views)
        square = _add_chunks(sums, at, pair, pairs + views, chunks, CHUNKS)
        doubtful = pair & ~_in_range(square, WIDE) & ~_is_nan(square)
        if NORMALIZE:
            norm_a, divisor_a = _pick(norm, b == a), _pick(divisor, b == a)
            distance, trusted = _unit_distance(square, norm_a, divisor_a, norm, divisor, WIDE)
            doubtful |= pair & ~_is_nan(square) & (~trusted | vague | _any(vague & (b == a)))
            # next to the zero vector a distance is the other's length: 1, or less where the norm was clamped
            distance = tl.where(norm_a == 0, norm / divisor, tl.where(norm == 0, norm_a / divisor_a, distance))
            doubtful &= (norm_a != 0) & (norm != 0)
        else:
            distance = tl.sqrt(square)
        if _any(doubtful):
            for v in range(a + 1, views):
                if _any(doubtful & (b == v)):
                    view_a = z + tl.cast(a, tl.int64) * view_stride
                    view_b = z + tl.cast(v, tl.int64) * view_stride
                    exact = exact_distance(view_a, view_b, dims, NORMALIZE, WIDE, BLOCK)
                    distance = tl.where(b == v, exact, distance)
        total += tl.where(pair, distance, 0.0)
        if KEEP:
            tl.store(saved + at, distance.to(WIDE), mask=pair)
    tl.store(alignment + point, (tl.sum(total, 0) / pairs).to(WIDE))


# ---- which sums can be trusted: the rules of csrc/cpu/distances.h ---------------------------------------------------


@triton.jit
def _in_range(sum, WIDE: tl.constexpr):
    """Whether a sum of squares is exact to rounding: no square that matters has overflowed or lost digits."""
    if WIDE.is_fp64():
        return (sum >= 1e-280) & (sum <= 1e308)
    return (sum >= 1e-24) & (sum <= 3e38)


@triton.jit
def _unit_distance(square, norm_a, divisor_a, norm_b, divisor_b, WIDE: tl.constexpr):
    """The distance of unit vectors from sums of the raw ones, and whether its digits can be trusted.

    |a/|a| - b/|b||^2 = (|a-b|^2 - (|a|-|b|)^2) / (|a||b|). Both terms carry rounding errors, so their difference is
    trusted only where the second takes no more than half of the first, and its error, about 2 sqrt(gap) norm_error,
    stays below 4e-7 of the result.
    """
    NORM_ERROR: tl.constexpr = 1e-16 if WIDE.is_fp64() else 4e-8
    square = square / divisor_a / divisor_b
    gap = (norm_a - norm_b) / divisor_a * ((norm_a - norm_b) / divisor_b)
    rest = square - gap
    allowed = 10 * rest - NORM_ERROR
    trusted = (rest >= gap) & (allowed > 0) & (allowed * allowed >= gap)
    return tl.sqrt(tl.where(rest < 0, 0.0, rest)), trusted  # NaN stays


# ---- small tools --------------------------------------------------------------------------------------------------


@triton.jit
def _add_chunks(sums, at, mask, stride, chunks, CHUNKS: tl.constexpr):
    """The sum over chunks of sums[chunk, at], always in the same order."""
    total = tl.zeros(at.shape, tl.float64)
    for first in range(0, chunks, CHUNKS):
        chunk = tl.cast(first + tl.arange(0, CHUNKS), tl.int64)[:, None]
        part = tl.load(sums + chunk * stride + at[None, :], mask=(chunk < chunks) & mask[None, :], other=0.0)
        total += tl.sum(part, 0)
    return total


@triton.jit
def _is_nan(x):
    return x != x


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), 0) > 0


@triton.jit
def _pick(values, chosen):
    """The one value that is chosen, [1]."""
    return tl.sum(tl.where(chosen, values, 0.0), 0, keep_dims=True)


# ---- host ---------------------------------------------------------------------------------------------------------


def alignment(z: Tensor, anchor: bool, normalize: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """The forward of ``torch.ops.memkern.alignment``.

    Args:
        z: [N, V, *dims], V >= 2; any strides of points and views.
        anchor: Whether view 0 is compared with each other view, instead of every pair.
        normalize: Whether to bring each view to unit length first.
        keep: Whether the backward will need the second result.

    Returns:
        The alignment [N], and what is kept: [N, pairs] distances, then with ``normalize`` [N, V] norms; else empty.
    """
    z, dims = view_block(z)
    chunk = setting("alignment", "chunk")
    chunks = max(1, triton.cdiv(dims, chunk))
    out, saved, sums = results(z, anchor, normalize, keep, chunks)
    if z.shape[0] == 0:
        return out, saved
    with on_device_of(z):
        _sum_pairs[(z.shape[0] * chunks,)](
            z, sums, dims, z.shape[1], sums.shape[2] - z.shape[1], chunks, z.stride(0), z.stride(1), CHUNK=chunk,
            **pair_tiles(z, dims, anchor),
        )  # fmt: skip
        finish(z, dims, sums, out, saved, anchor, normalize, keep)
    return out, saved


def results(z: Tensor, anchor: bool, normalize: bool, keep: bool, chunks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for what the two launches write: alignment, what is kept, and the sums in between."""
    points, views = z.shape[:2]
    pairs = views - 1 if anchor else views * (views - 1) // 2
    kept = (points, pairs + views if normalize else pairs) if keep else (0, 0)
    return (
        torch.empty(points, dtype=wide(z.dtype), device=z.device),
        torch.empty(kept, dtype=wide(z.dtype), device=z.device),
        torch.empty((points, chunks, pairs + views), dtype=torch.float64, device=z.device),
    )


def pair_tiles(z: Tensor, dims: int, anchor: bool) -> dict[str, object]:
    """The launch settings of pair sums for a tensor [N, V, *dims]."""
    most = triton.next_power_of_2(triton.cdiv(dims, vector(z.dtype)) or 1)
    lanes = min(max(most, 32), setting("alignment", "lanes"))
    rows = setting("alignment", "anchor_rows" if anchor else "rows")
    return {
        "ANCHOR": anchor,
        "ROWS": min(rows, triton.next_power_of_2(z.shape[1])),
        "LANES": lanes,
        "VECTOR": vector(z.dtype),
        "WIDE": triton_wide(z.dtype),
        "num_warps": warps(lanes),
    }


def finish(
    z: Tensor, dims: int, sums: Tensor, out: Tensor, saved: Tensor, anchor: bool, normalize: bool, keep: bool
) -> None:
    """Second launch: the sums [N, chunks, pairs + V] of ``z`` to its alignment, and what is kept, in place."""
    points, views = z.shape[:2]
    width = triton.next_power_of_2(views)
    at_once = max(1, setting("alignment", "finish_sums") // width)
    _finish[(points,)](
        z, sums, out, saved, dims, views, sums.shape[2] - views, sums.shape[1], z.stride(0), z.stride(1),
        ANCHOR=anchor, NORMALIZE=normalize, KEEP=keep, WIDE=triton_wide(z.dtype), VIEWS=width,
        CHUNKS=min(at_once, triton.next_power_of_2(sums.shape[1])), BLOCK=setting("alignment", "exact_block"),
        num_warps=warps(setting("alignment", "finish_lanes")), **registers(setting("alignment", "finish_registers")),
    )  # fmt: skip
