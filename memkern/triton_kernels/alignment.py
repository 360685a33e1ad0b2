"""Alignment: the mean l2 distance over pairs of views of each point, in one pass over memory.

Two launches. `_sum_pairs` reads every element: one program per point and piece of dims leaves the sums of that piece.
`_finish` adds the pieces of a point in order and makes distances of the sums; where a sum cannot be trusted it reads
the two views again, in float64.

Of unit vectors in floats, where views of different lengths point nearly the same way, many pairs of a point cannot be
trusted. So where a view is long there are two more launches: the first `_finish` only marks such points, `_sum_pairs`
reads these once more, each view divided by its length, and a second `_finish` has few pairs left to read one by one.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.exact import exact_distance, exact_l1, exact_norm, of_directions
from memkern.triton_kernels.launches import registers, setting, vector, warps
from memkern.triton_kernels.memory import (
    accumulate_dtype,
    cdiv,
    on_device_of,
    power_of_two,
    triton_accumulate_dtype,
    view_block,
)
from memkern.triton_kernels.pair_sums import store_pair_sums
from memkern.triton_kernels.view_sums import sum_views

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _sum_pairs(
    z,  # [points, views, dims]
    sums,  # [points, pieces, pairs + views] float64
    inverses,  # [points, views] as `_finish` leaves them: marked points only, each view times its own; None: all points
    dims,
    views,
    pairs,
    pieces,
    point_stride,
    view_stride,
    ANCHOR: tl.constexpr,
    GROUP: tl.constexpr,
    ONE: tl.constexpr,
    PIECE: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    point, first = program // pieces, program % pieces * PIECE
    if inverses is not None:
        inverses += point * views
        if tl.load(inverses) == -1:
            return
    store_pair_sums(
        z + point * point_stride, sums + program * (pairs + views), inverses, views, pairs, view_stride,
        first, first + PIECE, dims, ANCHOR, GROUP, ONE, PIECE, LANES, VECTOR, WIDE,
    )  # fmt: skip


@triton.jit
def _finish(
    z,  # [points, views, dims]
    sums,  # [points, pieces, pairs + views] float64
    again,  # [points, again_pieces, pairs + views] the same of unit vectors, for marked points; only the second time
    inverses,  # [points, views] wide, where there is a second time: one over each norm, -1 in a point without a mark
    alignment,  # [points] wide
    saved,  # [points, pairs + views if NORMALIZE], wide
    dims,
    views,
    pairs,
    pieces,
    again_pieces,
    point_stride,
    view_stride,
    ANCHOR: tl.constexpr,
    NORMALIZE: tl.constexpr,
    DISTANCE: tl.constexpr,  # as `kind_of` names it
    STEP: tl.constexpr,  # "only", "first": pairs that cannot be trusted mark their point, "second": for marked points
    KEEP: tl.constexpr,
    WIDE: tl.constexpr,
    PAIRS: tl.constexpr,  # pairs, or norms, computed at once
    PIECES: tl.constexpr,  # pieces added at once
    BLOCK: tl.constexpr,
):
    point = tl.cast(tl.program_id(0), tl.int64)
    z += point * point_stride
    sums += point * pieces * (pairs + views)
    saved += point * (pairs + views if NORMALIZE else pairs)
    if STEP != "only":
        inverses += point * views
    if STEP == "second":
        if tl.load(inverses) == -1:
            return
        again += point * again_pieces * (pairs + views)
    marked = False
    total = tl.zeros([PAIRS], tl.float64)
    for first in range(0, pairs, PAIRS):
        pair = first + tl.cast(tl.arange(0, PAIRS), tl.int64)
        there = pair < pairs
        a, b = _views_of(pair, views, pairs, ANCHOR)
        square = _add_pieces(sums, pair, there, pairs + views, pieces, PIECES)
        doubtful = there & ~_in_range(square, WIDE) & ~_is_nan(square)
        if NORMALIZE:
            norm_a, vague_a = _norms(z, sums, a, there, dims, views, pairs, pieces, view_stride, WIDE, PIECES, BLOCK)
            norm_b, vague_b = _norms(z, sums, b, there, dims, views, pairs, pieces, view_stride, WIDE, PIECES, BLOCK)
            divisor_a, divisor_b = _clamped(norm_a), _clamped(norm_b)
            distance, trusted = _unit_distance(square, norm_a, divisor_a, norm_b, divisor_b, WIDE)
            doubtful |= there & ~_is_nan(square) & (~trusted | vague_a | vague_b)
            # next to the zero vector a distance is the other's length: 1, or less where the norm was clamped
            distance = tl.where(norm_a == 0, norm_b / divisor_b, tl.where(norm_b == 0, norm_a / divisor_a, distance))
            doubtful &= (norm_a != 0) & (norm_b != 0)
            # Equal views, or elements that differ by less than 1.1e-19, so that the squares vanish: less than 1e-12.
            equal = (square == 0) & (norm_a > 1e-2)  # so norm_b is, too
            distance = tl.where(equal, 0.0, distance)
            doubtful &= ~equal
        else:
            distance = tl.sqrt(square)
        if STEP == "second":
            unit_square = _add_pieces(again, pair, there, pairs + views, again_pieces, PIECES)
            clear = _is_clear(unit_square, dims) & ~vague_a & ~vague_b
            distance = tl.where(doubtful & clear, tl.sqrt(unit_square), distance)
            doubtful &= ~clear
        if STEP == "first":  # what a second look would not tell either is read at once
            clear = _is_clear(distance * distance, dims) & ~vague_a & ~vague_b
            marked |= _any(doubtful & clear)
            doubtful &= ~clear
        if DISTANCE == "l1" or DISTANCE == "raw l1":
            doubtful = there  # a sum of squares says nothing of them
        if _any(doubtful):
            for i in range(first, tl.minimum(first + PAIRS, pairs)):
                if _any(doubtful & (pair == i)):
                    view_a = z + _pick(a, pair == i) * view_stride
                    view_b = z + _pick(b, pair == i) * view_stride
                    if DISTANCE == "l1" or DISTANCE == "raw l1":
                        exact = exact_l1(view_a, view_b, dims, NORMALIZE, WIDE, BLOCK)
                    else:
                        exact = exact_distance(view_a, view_b, dims, NORMALIZE, WIDE, BLOCK)
                    distance = tl.where(pair == i, exact, distance)
        if DISTANCE == "cosine" or DISTANCE == "angular":
            distance = of_directions(distance, DISTANCE)
        total += tl.where(there, distance, 0.0)
        if KEEP:
            tl.store(saved + pair, distance.to(WIDE), mask=there)
    tl.store(alignment + point, (tl.sum(total, 0) / pairs).to(WIDE))
    if STEP == "first":
        if marked:
            for first in range(0, views, PAIRS):
                v = first + tl.cast(tl.arange(0, PAIRS), tl.int64)
                norm = tl.sqrt(_add_pieces(sums, pairs + v, v < views, pairs + views, pieces, PIECES))
                tl.store(inverses + v, (1 / norm).to(WIDE), mask=v < views)
        else:
            tl.store(inverses, -1.0)
    if NORMALIZE and KEEP and STEP != "second":
        for first in range(0, views, PAIRS):
            v = first + tl.cast(tl.arange(0, PAIRS), tl.int64)
            norm, _ = _norms(z, sums, v, v < views, dims, views, pairs, pieces, view_stride, WIDE, PIECES, BLOCK)
            tl.store(saved + pairs + v, norm.to(WIDE), mask=v < views)


@triton.jit
def _views_of(pair, views, pairs, ANCHOR: tl.constexpr):
    """The views a < b of each pair; of a pair past the last, those of the last.

    Pairs before those of view a: a (2 V - 1 - a) / 2. Solved for a, rounded down; the root of a square is exact, and
    below 2^53 no other number rounds to it.
    """
    pair = tl.minimum(pair, pairs - 1)
    if ANCHOR:
        return tl.zeros_like(pair), pair + 1
    twice = 2 * tl.cast(views, tl.int64) - 1
    a = ((twice - tl.sqrt((twice * twice - 8 * pair).to(tl.float64))) * 0.5).to(tl.int64)
    return a, pair - a * (twice - a) // 2 + a + 1


@triton.jit
def _norms(
    z, sums, v, there, dims, views, pairs, pieces, view_stride, WIDE: tl.constexpr, PIECES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The norms of the views v, and which of them the sums could not tell: those are read again."""
    square = _add_pieces(sums, pairs + v, there, pairs + views, pieces, PIECES)
    norm = tl.sqrt(square)
    # 1.001: too close to the clamp for a sum of floats to tell on which side
    vague = there & ~(_in_range(square, WIDE) & (square > 1.001e-24)) & ~_is_nan(square)
    if _any(vague):
        for i in range(views):
            if _any(vague & (v == i)):
                norm = tl.where(v == i, exact_norm(z + tl.cast(i, tl.int64) * view_stride, dims, WIDE, BLOCK), norm)
    return norm, vague


@triton.jit
def _clamped(norm):
    return tl.where(norm < 1e-12, 1e-12, norm)  # not tl.maximum: NaN stays


# ---- which sums can be trusted: the rules of csrc/cpu/alignment/distances.h -----------------------------------------


@triton.jit
def _in_range(sum, WIDE: tl.constexpr):
    """Tells whether a sum of squares is exact to rounding: no square that matters has overflowed or lost digits."""
    if WIDE.is_fp64():
        return (sum >= 1e-280) & (sum <= 1e308)
    return (sum >= 1e-24) & (sum <= 3e38)


@triton.jit
def _unit_distance(square, norm_a, divisor_a, norm_b, divisor_b, WIDE: tl.constexpr):
    """The distance of unit vectors from sums of the raw ones, and whether its digits can be trusted.

    |a/|a| - b/|b||^2 = (|a-b|^2 - (|a|-|b|)^2) / (|a||b|). Both terms carry rounding errors, so their difference is
    trusted only where it is at least a quarter (of doubles: half) of the first, and the error of the second, about
    2 sqrt(gap) norm_error, stays below 4e-7 of the result.
    """
    NORM_ERROR: tl.constexpr = 1e-16 if WIDE.is_fp64() else 4e-8
    FAIR_SHARE: tl.constexpr = 0.5 if WIDE.is_fp64() else 0.25
    square = square / divisor_a / divisor_b
    gap = (norm_a - norm_b) / divisor_a * ((norm_a - norm_b) / divisor_b)
    rest = square - gap
    allowed = 10 * rest - NORM_ERROR
    trusted = (rest >= FAIR_SHARE * square) & (allowed > 0) & (allowed * allowed >= gap)
    return tl.sqrt(tl.where(rest < 0, 0.0, rest)), trusted  # NaN stays


@triton.jit
def _is_clear(unit_square, dims):
    """Tells whether a squared distance of unit vectors in floats can be trusted.

    Rounding moves each by some 3e-8 in a random direction, so their distance by 3e-8 / sqrt(dims): beyond this limit
    by at most 1e-7 of it. The error of their lengths, at a right angle to so small a distance, counts squared.
    """
    return unit_square * dims > 0.1


# ---- small tools --------------------------------------------------------------------------------------------------


@triton.jit
def _add_pieces(sums, at, mask, stride, pieces, PIECES: tl.constexpr):
    """The sum over pieces of sums[piece, at], always in the same order."""
    total = tl.zeros(at.shape, tl.float64)
    for first in range(0, pieces, PIECES):
        piece = tl.cast(first + tl.arange(0, PIECES), tl.int64)[:, None]
        part = tl.load(sums + piece * stride + at[None, :], mask=(piece < pieces) & mask[None, :], other=0.0)
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
    """The one value that is chosen."""
    return tl.sum(tl.where(chosen, values, 0), 0)


# ---- host ---------------------------------------------------------------------------------------------------------


def alignment(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: tuple[Tensor, ...] | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor]:
    """The forward of ``torch.ops.memkern.alignment``.

    Args:
        z: [N, V, *dims], V >= 2; any strides of points and views.
        anchor: Whether view 0 is compared with each other view, instead of every pair.
        normalize: Whether to bring each view to unit length first.
        keep: Whether the backward will need the second result.
        sums: Where rows [N, V], halves [2, N] and standard errors [N] go, if they are wanted; of all pairs only.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        The alignment [N], and what is kept: [N, pairs] distances, then with ``normalize`` [N, V] norms; else empty.
    """
    z, dims = view_block(z)
    tiles = pair_tiles(z, dims, anchor)
    pieces = max(1, cdiv(dims, tiles["PIECE"]))
    out, saved, partial = results(z, anchor, normalize, keep or sums is not None, pieces)
    if z.shape[0] > 0:
        with on_device_of(z):
            _sum(z, dims, partial, None, tiles)
            finish(z, dims, partial, out, saved, anchor, kind_of(distance, normalize), keep or sums is not None)
    return out, with_view_sums(saved, keep, sums)


def with_view_sums(saved: Tensor, keep: bool, sums: tuple[Tensor, ...] | None) -> Tensor:
    """Writes sums over views from the distances in ``saved``, if they are wanted; returns what is kept of these."""
    if sums is not None:
        sum_views(saved, *sums)
    return saved if keep else saved.new_empty((0, 0))


def results(z: Tensor, anchor: bool, normalize: bool, keep: bool, pieces: int) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for what the launches write: alignment, what is kept, and the sums in between."""
    points, views = z.shape[:2]
    pairs = views - 1 if anchor else views * (views - 1) // 2
    kept = (points, pairs + views if normalize else pairs) if keep else (0, 0)
    return (
        torch.empty(points, dtype=accumulate_dtype(z.dtype), device=z.device),
        torch.empty(kept, dtype=accumulate_dtype(z.dtype), device=z.device),
        torch.empty((points, pieces, pairs + views), dtype=torch.float64, device=z.device),
    )


def pair_tiles(z: Tensor, dims: int, anchor: bool) -> dict[str, Any]:
    """The launch settings of pair sums for a tensor [N, V, *dims] whose programs begin at multiples of ``dims``.

    Where that is no multiple of 16, Triton knows of no alignment: a lane then takes one element at a time, for its four
    would lie in four lanes, and each lane would hold the running sums of four.
    """
    views, lanes = z.shape[1], setting("alignment", "lanes")
    groups = 1 if views <= setting("alignment", "views") else cdiv(views, setting("alignment", "group"))
    return {
        "ANCHOR": anchor,
        "GROUP": cdiv(views, groups),
        "ONE": groups == 1,
        "PIECE": lanes * vector(z.dtype) * setting("alignment", "blocks"),
        "LANES": lanes,
        "VECTOR": vector(z.dtype) if dims % 16 == 0 else 1,
        "WIDE": triton_accumulate_dtype(z.dtype),
        "num_warps": warps(lanes),
    }


def _sum(z: Tensor, dims: int, sums: Tensor, inverses: Tensor | None, tiles: dict[str, Any]) -> None:
    """Launches `_sum_pairs` into sums [N, pieces, pairs + V]."""
    points, views = z.shape[:2]
    pieces, pairs = sums.shape[1], sums.shape[2] - views
    _sum_pairs[(points * pieces,)](z, sums, inverses, dims, views, pairs, pieces, z.stride(0), z.stride(1), **tiles)


def kind_of(distance: str, normalize: bool) -> str:
    """Names a distance and what it is taken of: "l2", "l1", "cosine", "angular" of unit vectors, "raw" l2, "raw l1"."""
    return distance if normalize else "raw l1" if distance == "l1" else "raw"


def finish(z: Tensor, dims: int, sums: Tensor, out: Tensor, saved: Tensor, anchor: bool, kind: str, keep: bool) -> None:
    """The other launches: the sums [N, pieces, pairs + V] of ``z`` to its alignment, and what is kept, in place.

    ``kind`` is what ``kind_of`` returns.
    """
    normalize = not kind.startswith("raw")
    points, views = z.shape[:2]
    pieces, pairs = sums.shape[1], sums.shape[2] - views
    at_once = min(power_of_two(pairs), setting("alignment", "finish_pairs"))
    more = min(8, max(1, power_of_two(pieces) // 16))  # warps for a point of many pieces

    def step(name: str, again: Tensor | None, inverses: Tensor | None) -> None:
        _finish[(points,)](
            z, sums, again, inverses, out, saved, dims, views, pairs, pieces, 0 if again is None else again.shape[1],
            z.stride(0), z.stride(1), ANCHOR=anchor, NORMALIZE=normalize, DISTANCE=kind, STEP=name, KEEP=keep,
            WIDE=triton_accumulate_dtype(z.dtype), PAIRS=at_once,
            PIECES=max(1, min(more * setting("alignment", "finish_sums") // at_once, power_of_two(pieces))),
            BLOCK=setting("alignment", "exact_block"), num_warps=warps(more * setting("alignment", "finish_lanes")),
            **registers(setting("alignment", "finish_registers")),
        )  # fmt: skip

    if not normalize or kind == "l1" or z.dtype == torch.float64 or dims <= setting("alignment", "second_look_dims"):
        step("only", None, None)
        return
    # Always launched, for only the GPU knows whether they have anything to do.
    tiles = pair_tiles(z, dims, anchor)
    inverses = torch.empty((points, views), dtype=torch.float32, device=z.device)
    again = sums.new_empty((points, max(1, cdiv(dims, tiles["PIECE"])), pairs + views))
    step("first", None, inverses)
    _sum(z, dims, again, inverses, tiles)
    step("second", again, inverses)
