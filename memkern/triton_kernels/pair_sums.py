"""Squared distances between the views of one point, over a range of its dims: what alignment and layer_stats share."""

# Tuples are concatenated as Triton can: it knows no starred elements, and mypy no tuple that grows.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store_pair_sums(
    point,  # first element of view 0
    sums,  # [pairs + views] float64: pairs in order (0,1), (0,2), ..., then the squared norms
    views,
    pairs,
    view_stride,
    first,
    stop,
    dims,
    ANCHOR: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Sums of one point over dims [first, min(stop, dims)), for a tile of views at a time.

    Views b of the tile's rows are compared with views a of its columns, a < b. Tiles after the first find their views
    in the cache.
    """
    COLUMNS: tl.constexpr = 1 if ANCHOR else ROWS
    for row in range(0, views, ROWS):
        for column in range(0, 1 if ANCHOR else row + 1, COLUMNS):
            squares, norms = tile_sums(
                point, row, column, views, view_stride, first, stop, dims, ROWS, COLUMNS, LANES, VECTOR, WIDE
            )
            b = tl.cast(row + tl.arange(0, ROWS), tl.int64)
            for c in tl.static_range(COLUMNS):
                a = column + c
                at = tl.cast(a, tl.int64) * (2 * views - a - 1) // 2 + b - a - 1
                tl.store(sums + at, squares[c], mask=(a < b) & (b < views))
            tl.store(sums + pairs + b, norms, mask=(b < views) & ((row == column) | ANCHOR))


@triton.jit
def tile_sums(
    point,
    row,  # first of ROWS views
    column,  # first of COLUMNS views
    views,
    view_stride,
    first,
    stop,
    dims,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Sums of |b - a|^2, for each column a [ROWS], and of |b|^2 [ROWS], in float64.

    Each lane reads VECTOR neighbouring dims of a view (128 bits) and keeps one running sum per pair in the wide type,
    for at most 8 blocks; everything above that is added in float64. Views past the last are zeros: the caller does not
    store what they give. For 128-bit loads the compiler must know `first`, `stop` and `dims` as multiples of 16: Triton
    compiles anew for numbers that are, so it does where the layout allows it.
    """
    BLOCK: tl.constexpr = LANES * VECTOR
    b = tl.cast(row + tl.arange(0, ROWS), tl.int64)[:, None, None]
    in_block = (tl.arange(0, LANES)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :])[None]  # [1, LANES, VECTOR]
    end = tl.minimum(stop, dims)
    squares = zeros(COLUMNS, [ROWS], tl.float64)
    norms = tl.zeros([ROWS], tl.float64)
    for flush in range(first, end, 8 * BLOCK):
        lane_squares = zeros(COLUMNS, [ROWS, LANES], WIDE)
        lane_norms = tl.zeros([ROWS, LANES], WIDE)
        for start in range(flush, tl.minimum(flush + 8 * BLOCK, end), BLOCK):
            d = start + in_block
            inside = d < end
            rows = tl.load(point + b * view_stride + d, mask=(b < views) & inside, other=0.0).to(WIDE)
            lane_norms += tl.sum(rows * rows, 2)
            lane_terms = ()
            for c in tl.static_range(COLUMNS):
                a = tl.cast(column + c, tl.int64)
                view = tl.load(point + a * view_stride + d, mask=(a < views) & inside, other=0.0).to(WIDE)
                difference = rows - view  # [ROWS, LANES, VECTOR]
                lane_terms = lane_terms + (lane_squares[c] + tl.sum(difference * difference, 2),)
            lane_squares = lane_terms
        norms += tl.sum(lane_norms.to(tl.float64), 1)
        terms = ()
        for c in tl.static_range(COLUMNS):
            terms = terms + (squares[c] + tl.sum(lane_squares[c].to(tl.float64), 1),)
        squares = terms
    return squares, norms


@triton.jit
def zeros(COUNT: tl.constexpr, SHAPE: tl.constexpr, DTYPE: tl.constexpr):
    """A tuple of zero tensors."""
    result = ()
    for _ in tl.static_range(COUNT):
        result = result + (tl.zeros(SHAPE, DTYPE),)
    return result
