"""Sums over the views of a point, from the distances of all its pairs that `alignment` keeps: a program per point."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, warps
from memkern.triton_kernels.memory import on_device_of, power_of_two, triton_accumulate_dtype


@triton.jit
def _sum_views(
    distances,  # [points, kept] wide: of all pairs in order, then what is not read
    rows,  # [points, views] wide
    halves,  # [2, points] wide
    errors,  # [points] wide
    points,
    views,
    kept,
    VIEWS: tl.constexpr,  # a power of two, at least the views
    WIDE: tl.constexpr,
):
    point = tl.cast(tl.program_id(0), tl.int64)
    distances += point * kept
    v, count = tl.cast(tl.arange(0, VIEWS), tl.int64), tl.cast(views, tl.int64)
    row, half = tl.zeros([VIEWS], tl.float64), tl.zeros([VIEWS], tl.float64)
    for other in range(0, views):
        first, second = tl.minimum(v, other), tl.maximum(v, other)
        pair = first * (2 * count - first - 1) // 2 + second - first - 1
        distance = tl.load(distances + pair, mask=(v < views) & (v != other), other=0.0).to(tl.float64)
        row += distance
        half += tl.where((v - other) % 2 == 0, distance, 0.0)
    tl.store(rows + point * views + v, row.to(WIDE), mask=v < views)
    mean = tl.sum(row, 0) / count
    spread = tl.sum(tl.where(v < views, (row - mean) * (row - mean), 0.0), 0)
    pairs = (count - 1) * (count - 2) // 2  # without a view
    error = tl.sqrt(spread * (count - 1) / count) / tl.maximum(pairs, 1)
    tl.store(errors + point, tl.where(pairs > 0, error, float("nan")).to(WIDE))
    for odd in tl.static_range(2):
        mine = (count + 1 - odd) // 2
        total = tl.sum(tl.where(v % 2 == odd, half, 0.0), 0)  # each pair twice
        half_mean = tl.where(mine > 1, total / tl.maximum(mine * (mine - 1), 1), float("nan"))
        tl.store(halves + odd * tl.cast(points, tl.int64) + point, half_mean.to(WIDE))


def sum_views(distances: Tensor, rows: Tensor, halves: Tensor, errors: Tensor) -> None:
    """Writes sums over the views of each point.

    Args:
        distances: [N, pairs or more], wide: those of all pairs first, in order.
        rows: [N, V], wide; gets the sum of the distances of each view to the others.
        halves: [2, N], wide; gets the mean distance among the even and among the odd views.
        errors: [N], wide; gets the standard error of the mean distance over draws of the views.
    """
    points, views = rows.shape
    if points == 0:
        return
    with on_device_of(rows):
        _sum_views[(points,)](
            distances, rows, halves, errors, points, views, distances.shape[1], VIEWS=power_of_two(views),
            WIDE=triton_accumulate_dtype(rows.dtype),
            num_warps=warps(setting("alignment", "finish_lanes")),
        )  # fmt: skip
