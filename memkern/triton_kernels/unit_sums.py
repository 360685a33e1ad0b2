"""Sums of each unit over views and space: what unit_means and layer_stats share.

A *lane* is a unit of one point (or, where points are what memory holds side by side, a point of one unit). All that a
lane averages is an inner loop and up to three outer ones, cut into blocks of the inner loop and numbered through.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def lane_sums(
    x,  # first element of the first lane
    lane,  # [LANES] numbers, int64
    lanes,  # how many there are; the others sum to 0
    lane_stride,
    first,
    last,  # blocks [first, last) are added
    inner,
    inner_stride,
    size_1,
    stride_1,
    size_2,
    stride_2,
    stride_3,
    OUTER: tl.constexpr,  # outer loops that there are, innermost first: 0 to 3
    ACTIVATION: tl.constexpr,
    BLOCK: tl.constexpr,
    TREE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """[LANES] float64.

    Elements are added in the wide type only inside a tree of TREE (1, 2 or 4) tiles, everything above in float64: no
    error that grows with size, and since a tree holds a power of two of terms, the mean of a constant is that constant.
    """
    total = tl.zeros([lane.shape[0], BLOCK], tl.float64)
    at = x + lane[:, None] * lane_stride
    mask = (lane < lanes)[:, None]
    for block in range(first, last, TREE):
        tile = _tile(at, mask, block, last, inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3,
                     OUTER, ACTIVATION, BLOCK, WIDE)  # fmt: skip
        if TREE > 1:
            tile += _tile(at, mask, block + 1, last, inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3,
                          OUTER, ACTIVATION, BLOCK, WIDE)  # fmt: skip
        if TREE > 2:
            other = _tile(at, mask, block + 2, last, inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3,
                          OUTER, ACTIVATION, BLOCK, WIDE)  # fmt: skip
            other += _tile(at, mask, block + 3, last, inner, inner_stride, size_1, stride_1, size_2, stride_2, stride_3,
                           OUTER, ACTIVATION, BLOCK, WIDE)  # fmt: skip
            tile += other
        total += tile.to(tl.float64)
    return tl.sum(total, 1)


@triton.jit
def _tile(
    at,  # [LANES, 1] pointers to the lanes' first elements
    mask,  # [LANES, 1]
    block,
    last,
    inner,
    inner_stride,
    size_1,
    stride_1,
    size_2,
    stride_2,
    stride_3,
    OUTER: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """[LANES, BLOCK]: one block of each lane, activated; zeros past its end."""
    block = tl.cast(block, tl.int64)
    blocks = tl.cdiv(tl.cast(inner, tl.int64), BLOCK)
    i = (block % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    offset = i * inner_stride
    if OUTER > 0:
        row = block // blocks
        if OUTER > 1:
            offset += row % size_1 * stride_1
            row = row // size_1
            if OUTER > 2:
                offset += row % size_2 * stride_2 + row // size_2 * stride_3
            else:
                offset += row * stride_2
        else:
            offset += row * stride_1
    tile = tl.load(at + offset, mask=mask & (i < inner) & (block < last), other=0.0).to(WIDE)
    return activate(tile, ACTIVATION)


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """Applies the activation to an element. NaN passes relu: NaN < 0 is false."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)
    if ACTIVATION == "abs":
        x = tl.abs(x)
    return x
