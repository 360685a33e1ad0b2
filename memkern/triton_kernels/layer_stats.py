"""Layer statistics: alignment per point and unit means from one read of a layer's activations.

Large maps, one after the other in memory (NCHW): one program per piece of a map compares its views in registers, and
adds them up as it does. Else one program per point and chunk of whole units or, where units are innermost
(channels-last, tokens), of whole positions: it sums the pairs of views as alignment does, then the units as unit_means
does; the second time the chunk comes from the cache. Each has its own finish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels import alignment as align
from memkern.triton_kernels import unit_means as means_of
from memkern.triton_kernels.launches import setting, vector
from memkern.triton_kernels.memory import accumulate_dtype, cdiv, loops, on_device_of, power_of_two, view_block
from memkern.triton_kernels.pair_sums import pairs_within, store_pair_sums
from memkern.triton_kernels.unit_sums import lane_sums

# ---- kernel -------------------------------------------------------------------------------------------------------


@triton.jit
def _sum_layer(
    x,  # [points, views, dims], dims in the order of memory
    pair_sums,  # [points, chunks, PIECES, pairs + views] float64
    unit_sums,  # [1 if PLANES else chunks, points, units] float64
    dims,
    views,
    pairs,
    chunks,
    point_stride,
    view_stride,
    points,
    units,
    unit_stride,
    space,
    space_stride,
    chunk_units,  # of these two, one is everything and the other a part
    chunk_space,
    ANCHOR: tl.constexpr,
    PLANES: tl.constexpr,
    PIECES: tl.constexpr,
    GROUP: tl.constexpr,
    ONE: tl.constexpr,
    PIECE: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    UNIT_LANES: tl.constexpr,
    UNIT_BLOCK: tl.constexpr,
    TREE: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    point, chunk = program // chunks, program % chunks
    x += point * point_stride
    chunk_dims = tl.cast(chunk_units, tl.int64) * chunk_space
    store_pair_sums(
        x, pair_sums + program * PIECES * (pairs + views), None, views, pairs, view_stride,
        chunk * chunk_dims, (chunk + 1) * chunk_dims, dims, ANCHOR, GROUP, ONE, PIECE, LANES, VECTOR, WIDE,
    )  # fmt: skip
    first_unit, first_space = (chunk * chunk_units, 0) if PLANES else (0, chunk * chunk_space)
    # units and positions of this chunk
    last_unit = tl.minimum(first_unit + chunk_units, units) if PLANES else units
    here = space if PLANES else tl.minimum(chunk_space, space - first_space)
    blocks = tl.cdiv(tl.cast(here, tl.int64), UNIT_BLOCK) * views
    unit_sums += (point if PLANES else chunk * points + point) * units
    for start in range(first_unit, last_unit, UNIT_LANES):
        unit = tl.cast(start + tl.arange(0, UNIT_LANES), tl.int64)
        sums = lane_sums(
            x + first_space * space_stride, unit, last_unit, unit_stride, 0, blocks, here, space_stride,
            views, view_stride, 1, 0, 0, 1, "raw", UNIT_BLOCK, TREE, WIDE,
        )  # fmt: skip
        tl.store(unit_sums + unit, sums, mask=unit < last_unit)


@triton.jit
def _sum_maps(
    x,  # [points, views, units, space]
    pair_sums,  # [points, units, pieces, pairs + views] float64
    unit_sums,  # [pieces, points, units] float64
    views,
    pairs,
    pieces,
    points,
    units,
    space,
    point_stride,
    view_stride,
    PIECE: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    piece = program % pieces
    unit = program // pieces % units
    point = program // pieces // units
    first = unit * space + piece * PIECE
    end = tl.minimum(first + PIECE, (unit + 1) * space)
    total = pairs_within(
        x + point * point_stride, pair_sums + program * (pairs + views), None, 0, views, pairs, view_stride,
        first, end, GROUP, True, True, LANES, VECTOR, WIDE,
    )  # fmt: skip
    tl.store(unit_sums + (piece * points + point) * units + unit, total)


# ---- host ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """Cut of the dims of a view into programs."""

    planes: bool  # whether a chunk is some units with all their positions, not some positions with all units
    space: int  # positions of a unit
    space_stride: int
    units: int  # of a chunk
    positions: int  # of a chunk
    count: int


def chunks_of(x: Tensor, unit_dim: int) -> Chunks | None:
    """The cut of activations [N, V, *dims] whose views are dense; None if units lie neither outermost nor innermost."""
    units, unit_stride = x.shape[unit_dim], x.stride(unit_dim)
    space_loops = loops((x.shape[d], x.stride(d)) for d in range(2, x.dim()) if d != unit_dim)
    space = math.prod(size for size, _ in space_loops)
    planes = space_loops == [(space, 1)] and unit_stride == space
    if not planes and not (units == 1 or (unit_stride == 1 and len(space_loops) < 2)):
        return None
    whole, other = (space, units) if planes else (units, space)
    # As many whole units, or positions, as a chunk holds; a multiple of 16 dims, which keeps the 128-bit loads, unless
    # that takes far more than a chunk.
    chunk = setting("alignment", "lanes") * vector(x.dtype) * setting("alignment", "blocks")
    together = 16 // math.gcd(whole, 16)
    if whole * together > 4 * chunk:
        together = 1
    part = max(chunk // (whole * together), 1) * together
    space_stride = space_loops[0][1] if space_loops else 1
    chunk_units, positions = (part, space) if planes else (units, part)
    return Chunks(planes, space, space_stride, chunk_units, positions, max(1, cdiv(other, part)))


def layer_stats(
    x: Tensor,
    unit_dim: int,
    anchor: bool,
    normalize: bool,
    keep: bool,
    sums: tuple[Tensor, ...] | None = None,
    distance: str = "l2",
) -> tuple[Tensor, Tensor, Tensor]:
    """The forward of ``torch.ops.memkern.layer_stats``.

    Args:
        x: [N, V, ...] activations, V >= 2.
        unit_dim: The dimension of the units.
        anchor: Whether view 0 is compared with each other view, instead of every pair.
        normalize: Whether to bring each view to unit length first.
        keep: Whether the backward will need what alignment keeps.
        sums: Where rows [N, V], halves [2, N] and standard errors [N] go, if they are wanted; of all pairs only.
        distance: "l2", "l1", "cosine" or "angular".

    Returns:
        Alignment [N], unit means [N, U], and what alignment keeps.
    """
    if distance == "l1":  # it has to look at all elements again, wherever they lie
        kept = keep or sums is not None
        out, saved = align.alignment(x, anchor, normalize, kept, None, distance)
        return out, means_of.unit_means(x, unit_dim, "raw"), align.with_view_sums(saved, keep, sums)
    kind = align.kind_of(distance, normalize)
    out, means, saved = _with_distances(x, unit_dim, anchor, kind, keep or sums is not None)
    return out, means, align.with_view_sums(saved, keep, sums)


def _with_distances(x: Tensor, unit_dim: int, anchor: bool, distance: str, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same without sums over views; ``distance`` as for ``alignment.finish``."""
    normalize = distance != "raw"
    x, dims = view_block(x)
    chunks = chunks_of(x, unit_dim)
    points, views, units = *x.shape[:2], x.shape[unit_dim]
    if chunks is None or points == 0 or dims == 0:
        out, saved = align.alignment(x, anchor, normalize, keep, None, distance)
        return out, means_of.unit_means(x, unit_dim, "raw"), saved
    chunk_dims = chunks.units * chunks.positions
    block = setting("alignment", "lanes") * vector(x.dtype)
    launch = align.pair_tiles(x, math.gcd(dims, chunk_dims), anchor)
    if chunks.planes and launch["ONE"] and not anchor and chunks.space > setting("layer_stats", "blocks") * block:
        return _of_large_maps(x, chunks.space, units, block, distance, keep)
    pieces = cdiv(chunk_dims, launch["PIECE"])
    out, saved, pair_sums = align.results(x, anchor, normalize, keep, chunks.count * pieces)
    means = torch.empty((points, units), dtype=accumulate_dtype(x.dtype), device=x.device)
    parts = 1 if chunks.planes else chunks.count
    unit_sums = torch.empty((parts, points, units), dtype=torch.float64, device=x.device)
    walk = means_of.Lanes(False, (chunks.positions, chunks.space_stride), ((views, x.stride(1)),))
    tile = means_of.tile_of(x.dtype, walk, chunks.units, setting("alignment", "lanes"))
    blocks = cdiv(chunks.positions, tile["BLOCK"]) * views
    with on_device_of(x):
        _sum_layer[(points * chunks.count,)](
            x, pair_sums, unit_sums, dims, views, pair_sums.shape[2] - views, chunks.count, x.stride(0), x.stride(1),
            points, units, x.stride(unit_dim), chunks.space, chunks.space_stride, chunks.units, chunks.positions,
            PIECES=pieces, PLANES=chunks.planes, UNIT_LANES=tile["LANES"], UNIT_BLOCK=tile["BLOCK"],
            TREE=min(4, power_of_two(blocks)), **launch,
        )  # fmt: skip
        align.finish(x, dims, pair_sums, out, saved, anchor, distance, keep)
        means_of.divide(unit_sums, means, views * chunks.space)
    return out, means, saved


def _of_large_maps(
    x: Tensor, space: int, units: int, block: int, distance: str, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for maps of many blocks: pieces of a map are equally large, but for the last."""
    points, views = x.shape[:2]
    launch = align.pair_tiles(x, space, False)
    pieces = cdiv(space, launch["PIECE"])
    out, saved, pair_sums = align.results(x, False, distance != "raw", keep, units * pieces)
    means = torch.empty((points, units), dtype=accumulate_dtype(x.dtype), device=x.device)
    unit_sums = torch.empty((pieces, points, units), dtype=torch.float64, device=x.device)
    with on_device_of(x):
        _sum_maps[(points * units * pieces,)](
            x, pair_sums, unit_sums, views, pair_sums.shape[2] - views, pieces, points, units, space, x.stride(0),
            x.stride(1), PIECE=cdiv(space, pieces * block) * block, GROUP=views, LANES=launch["LANES"],
            VECTOR=launch["VECTOR"], WIDE=launch["WIDE"], num_warps=launch["num_warps"],
        )  # fmt: skip
        align.finish(x, units * space, pair_sums, out, saved, False, distance, keep)
        means_of.divide(unit_sums, means, views * space)
    return out, means, saved
