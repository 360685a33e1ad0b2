"""Squared distances between the views of one point, over a range of its dims: what alignment and layer_stats share.

A program is one warp, so no sum crosses warps and nothing waits at a barrier; each lane reads 16 bytes of a group of
views, then compares every two of them in registers: the elements of a group are loaded once for all its pairs.
"""

# Tuples are concatenated as Triton can: it knows no starred elements, and mypy no tuple that grows.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store_pair_sums(
    point,  # first element of view 0
    sums,  # [pieces, pairs + views] float64: pairs in order (0,1), (0,2), ..., then the squared norms
    scales,  # [views] what the elements of each view are multiplied with, wide; None: nothing
    views,
    pairs,
    view_stride,
    first,
    stop,
    dims,
    ANCHOR: tl.constexpr,
    GROUP: tl.constexpr,  # views compared in registers
    ONE: tl.constexpr,  # whether that is all of them
    PIECE: tl.constexpr,  # dims added in the wide type
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Sums of one point over each piece of dims [first, stop), in float64; dims past the last count as zeros.

    A lane keeps one running sum per pair in the wide type, over one piece. For 128-bit loads the compiler must know
    `first`, the strides and `dims` as multiples of 16: Triton compiles anew for numbers that are, so it does where the
    layout allows it.
    """
    for start in range(first, stop, PIECE):
        end = tl.minimum(start + PIECE, tl.minimum(stop, dims))
        to = sums + tl.cast(start - first, tl.int64) // PIECE * (pairs + views)
        for row in range(0, 1 if ONE else views, GROUP):
            if ANCHOR:
                _anchor(point, to, scales, row, views, pairs, view_stride, start, end, GROUP, LANES, VECTOR, WIDE)
            else:
                pairs_within(
                    point, to, scales, row, views, pairs, view_stride,
                    start, end, GROUP, ONE, False, LANES, VECTOR, WIDE,
                )  # fmt: skip
                if not ONE:
                    for column in range(0, row, GROUP):
                        _between(
                            point, to, scales, row, column, views, view_stride, start, end, GROUP, LANES, VECTOR, WIDE
                        )


@triton.jit
def pairs_within(
    point,
    sums,
    scales,
    row,
    views,
    pairs,
    view_stride,
    start,
    end,
    GROUP: tl.constexpr,
    ONE: tl.constexpr,
    MEANS: tl.constexpr,  # whether to add up the elements, too
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Stores the pairs of views [row, row + GROUP), and their squared norms; the sum of their elements is returned.

    Of elements only two are added in the wide type, everything above in float64: the mean of a constant is exact.
    """
    squares = _zeros(GROUP * (GROUP - 1) // 2, [LANES], WIDE)
    norms = _zeros(GROUP, [LANES], WIDE)
    elements = tl.zeros([LANES], tl.float64)
    scale = _scales(scales, row, views, GROUP)
    for d in range(start, end, LANES * VECTOR):
        group = _load(point, scale, row, views, view_stride, d, end, GROUP, ONE, LANES, VECTOR, WIDE)
        new_squares, new_norms = (), ()
        for a in tl.static_range(GROUP):
            new_norms = new_norms + (norms[a] + tl.sum(group[a] * group[a], 1),)
            for b in tl.static_range(a + 1, GROUP):
                difference = group[b] - group[a]
                new_squares = new_squares + (
                    squares[a * (2 * GROUP - a - 1) // 2 + b - a - 1] + tl.sum(difference * difference, 1),
                )
        squares, norms = new_squares, new_norms
        if MEANS:
            for a in tl.static_range(0, GROUP, 2):
                two = group[a] + group[a + 1] if a + 1 < GROUP else group[a]
                elements += tl.sum(two.to(tl.float64), 1)
    for a in tl.static_range(GROUP):
        for b in tl.static_range(a + 1, GROUP):
            square = squares[a * (2 * GROUP - a - 1) // 2 + b - a - 1]
            _store_pair(sums, row + a, row + b, views, square)
        tl.store(sums + pairs + row + a, tl.sum(norms[a].to(tl.float64), 0), mask=row + a < views)
    return tl.sum(elements, 0)


@triton.jit
def _between(
    point,
    sums,
    scales,
    row,
    column,
    views,
    view_stride,
    start,
    end,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The pairs of each view of [column, column + GROUP) with each of [row, row + GROUP), columns before rows."""
    squares = _zeros(GROUP * GROUP, [LANES], WIDE)
    column_scale = _scales(scales, column, views, GROUP)
    row_scale = _scales(scales, row, views, GROUP)
    for d in range(start, end, LANES * VECTOR):
        columns = _load(point, column_scale, column, views, view_stride, d, end, GROUP, True, LANES, VECTOR, WIDE)
        rows = _load(point, row_scale, row, views, view_stride, d, end, GROUP, False, LANES, VECTOR, WIDE)
        new_squares = ()
        for a in tl.static_range(GROUP):
            for b in tl.static_range(GROUP):
                difference = rows[b] - columns[a]
                new_squares = new_squares + (squares[a * GROUP + b] + tl.sum(difference * difference, 1),)
        squares = new_squares
    for a in tl.static_range(GROUP):
        for b in tl.static_range(GROUP):
            _store_pair(sums, column + a, row + b, views, squares[a * GROUP + b])


@triton.jit
def _anchor(
    point,
    sums,
    scales,
    row,
    views,
    pairs,
    view_stride,
    start,
    end,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The pairs of view 0 with views [row, row + GROUP), and the squared norms of these."""
    squares = _zeros(GROUP, [LANES], WIDE)
    norms = _zeros(GROUP, [LANES], WIDE)
    anchor_scale = _scales(scales, 0, views, 1)
    row_scale = _scales(scales, row, views, GROUP)
    for d in range(start, end, LANES * VECTOR):
        anchor = _load(point, anchor_scale, 0, views, view_stride, d, end, 1, True, LANES, VECTOR, WIDE)
        rows = _load(point, row_scale, row, views, view_stride, d, end, GROUP, False, LANES, VECTOR, WIDE)
        new_squares, new_norms = (), ()
        for b in tl.static_range(GROUP):
            difference = rows[b] - anchor[0]
            new_squares = new_squares + (squares[b] + tl.sum(difference * difference, 1),)
            new_norms = new_norms + (norms[b] + tl.sum(rows[b] * rows[b], 1),)
        squares, norms = new_squares, new_norms
    for b in tl.static_range(GROUP):
        _store_pair(sums, 0, row + b, views, squares[b])
        tl.store(sums + pairs + row + b, tl.sum(norms[b].to(tl.float64), 0), mask=row + b < views)


@triton.jit
def _scales(scales, first_view, views, COUNT: tl.constexpr):
    """Loads the scales of COUNT views as a tuple, which is empty if there are none."""
    result = ()
    if scales is not None:
        for v in tl.static_range(COUNT):
            view = tl.cast(first_view + v, tl.int64)
            result = result + (tl.load(scales + view, mask=view < views, other=0.0),)
    return result


@triton.jit
def _load(
    point,
    scale,
    first_view,
    views,
    view_stride,
    d,
    end,
    COUNT: tl.constexpr,
    ALL: tl.constexpr,  # whether all these views exist; those that don't are zeros
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDE: tl.constexpr,
):
    """[LANES, VECTOR] elements from dim d on of each of COUNT views as a tuple, times its scale if there are any."""
    at = d + (tl.arange(0, LANES)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :])
    result = ()
    for v in tl.static_range(COUNT):
        view = tl.cast(first_view + v, tl.int64)
        mask = (at < end) if ALL else (at < end) & (view < views)
        elements = tl.load(point + view * view_stride + at, mask=mask, other=0.0).to(WIDE)
        result = result + (elements * scale[v] if len(scale) > 0 else elements,)
    return result


@triton.jit
def _store_pair(sums, a, b, views, lanes):
    """Adds up the lanes of pair (a, b) and stores the sum, if both views exist and a < b."""
    at = tl.cast(a, tl.int64) * (2 * views - a - 1) // 2 + b - a - 1
    tl.store(sums + at, tl.sum(lanes.to(tl.float64), 0), mask=(a < b) & (b < views))


@triton.jit
def _zeros(COUNT: tl.constexpr, SHAPE: tl.constexpr, DTYPE: tl.constexpr):
    """A tuple of zero tensors."""
    result = ()
    for _ in tl.static_range(COUNT):
        result = result + (tl.zeros(SHAPE, DTYPE),)
    return result
