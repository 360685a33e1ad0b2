"""Selectivity: per unit the largest per-point mean, where it was, the sum of all the others, and the smallest.

Activations with views or space become a matrix of means first (unit_means); a matrix is read as it is. One program per
block of units and chunk of positions leaves a partial state, a second launch merges the chunks in order. One rule,
`_merge`, combines states everywhere: of two lanes, of two rows, of two chunks.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, vector, warps
from memkern.triton_kernels.memory import accumulate_dtype, cdiv, on_device_of, power_of_two, triton_accumulate_dtype
from memkern.triton_kernels.unit_means import unit_means
from memkern.triton_kernels.unit_sums import activate

States = tuple[Tensor, Tensor, Tensor, Tensor]

# The index of a state of no point.
NOBODY = tl.constexpr(2**63 - 1)

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _merge(peak, index, rest, low, peak_2, index_2, rest_2, low_2):
    """The state of two disjoint sets of points; in whatever order they come.

    The larger peak stays, a NaN before any number, the smaller index among equals. The other peak joins the rest.
    """
    nan, nan_2 = peak != peak, peak_2 != peak_2
    equal = (nan & nan_2) | (peak == peak_2)
    second = (equal & (index_2 < index)) | (~equal & ~nan & (nan_2 | (peak_2 > peak)))
    second = (second & (index_2 != NOBODY)) | (index == NOBODY)
    loser, loser_index = tl.where(second, peak, peak_2), tl.where(second, index, index_2)
    rest += rest_2 + tl.where(loser_index == NOBODY, 0.0, loser.to(tl.float64))
    low = tl.where((low_2 < low) | (low_2 != low_2), low_2, low)  # NaN replaces, and is never replaced
    return tl.where(second, peak_2, peak), tl.where(second, index_2, index), rest, low


@triton.jit
def _visit(
    x,  # [points, units]
    order,  # [points] the point visited at each position; read if ORDERED
    peak_of,  # [chunks, units] wide, as low_of
    index_of,  # [chunks, units] int64
    rest_of,  # [chunks, units] float64
    low_of,
    points,
    units,
    chunks,
    point_stride,
    unit_stride,
    ORDERED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    chunk = program % chunks
    unit = (program // chunks * UNITS + tl.arange(0, UNITS))[None, :]
    row = tl.arange(0, ROWS)[:, None]
    # Each lane meets its points in order, so the plain rule does: first come, first kept. A lane's first loses to none.
    lane_peak, lane_low = tl.full([ROWS, UNITS], -float("inf"), WIDE), tl.full([ROWS, UNITS], float("inf"), WIDE)
    lane_step, lane_rest = tl.zeros([ROWS, UNITS], tl.int32), tl.zeros([ROWS, UNITS], tl.float64)
    for start in range(0, CHUNK, ROWS):
        position = chunk * CHUNK + start + row
        point = tl.load(order + position, mask=position < points, other=0) if ORDERED else position
        there = (position < points) & (unit < units)
        value = tl.load(x + point * point_stride + unit * unit_stride, mask=there, other=0.0).to(WIDE)
        value = activate(value, ACTIVATION)
        higher = there & (lane_peak == lane_peak) & ~(value <= lane_peak)  # or the first NaN
        loser = tl.where(higher, lane_peak, value)
        lane_rest += tl.where(there & (start > 0), loser, 0.0).to(tl.float64)
        lane_peak = tl.where(higher, value, lane_peak)
        lane_step = tl.where(higher, start, lane_step)
        lane_low = tl.where(there & ((value < lane_low) | (value != value)), value, lane_low)
    position = chunk * CHUNK + row
    index = tl.where((position < points) & (unit < units), position + lane_step, NOBODY)
    _store(
        lane_peak, index, lane_rest, lane_low, peak_of, index_of, rest_of, low_of, chunk * units + unit, unit < units
    )


@triton.jit
def _merge_chunks(
    chunk_peak,  # [chunks, units] wide, as chunk_low
    chunk_index,  # [chunks, units] int64
    chunk_rest,  # [chunks, units] float64
    chunk_low,
    peak,  # [units] wide, as low
    index,  # [units] int64
    rest,  # [units] float64
    low,
    units,
    chunks,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    WIDE: tl.constexpr,
):
    unit = (tl.cast(tl.program_id(0), tl.int64) * UNITS + tl.arange(0, UNITS))[None, :]
    state_peak, state_index, state_rest, state_low = _nobody(ROWS, UNITS, WIDE)
    for start in range(0, chunks, ROWS):
        chunk = tl.cast(start + tl.arange(0, ROWS), tl.int64)[:, None]
        at, there = chunk * units + unit, (chunk < chunks) & (unit < units)
        state_peak, state_index, state_rest, state_low = _merge(
            state_peak, state_index, state_rest, state_low,
            tl.load(chunk_peak + at, mask=there, other=0.0), tl.load(chunk_index + at, mask=there, other=NOBODY),
            tl.load(chunk_rest + at, mask=there, other=0.0), tl.load(chunk_low + at, mask=there, other=float("inf")),
        )  # fmt: skip
    _store(state_peak, state_index, state_rest, state_low, peak, index, rest, low, unit, unit < units)


@triton.jit
def _nobody(ROWS: tl.constexpr, UNITS: tl.constexpr, WIDE: tl.constexpr):
    """The state of no point, in each lane."""
    peak, low = tl.zeros([ROWS, UNITS], WIDE), tl.full([ROWS, UNITS], float("inf"), WIDE)
    return peak, tl.full([ROWS, UNITS], NOBODY, tl.int64), tl.zeros([ROWS, UNITS], tl.float64), low


@triton.jit
def _store(state_peak, state_index, state_rest, state_low, peak, index, rest, low, at, mask):
    """Merges the rows of the lanes [ROWS, UNITS] and stores the states at [1, UNITS]."""
    lanes = (state_peak, state_index, state_rest, state_low)
    state_peak, state_index, state_rest, state_low = tl.reduce(lanes, 0, _merge, keep_dims=True)
    tl.store(peak + at, state_peak, mask=mask)
    tl.store(index + at, state_index, mask=mask)
    tl.store(rest + at, state_rest, mask=mask)
    tl.store(low + at, state_low, mask=mask)


# ---- host ---------------------------------------------------------------------------------------------------------


def selectivity(x: Tensor, unit_dim: int, activation: str, order: Tensor | None) -> States:
    """The forward of ``torch.ops.memkern.selectivity``.

    Args:
        x: Activations, dim 0 holds the points, any strides.
        unit_dim: The dimension of the units; every other is averaged.
        activation: "raw", "relu" or "abs".
        order: [N] int64, the point visited at each position; None for 0, 1, 2, ...

    Returns:
        Per unit: peak (wide), index (int64, a position), rest (float64), low (wide).
    """
    if any(size != 1 for dim, size in enumerate(x.shape) if dim not in (0, unit_dim)):
        x, unit_dim, activation = unit_means(x, unit_dim, activation), 1, "raw"
    (points, point_stride), (units, unit_stride) = (x.shape[0], x.stride(0)), (x.shape[unit_dim], x.stride(unit_dim))
    chunk = setting("selectivity", "chunk")
    chunks = max(1, cdiv(points, chunk))
    state = _states((units,), x)
    if units == 0:
        return state
    tile = tile_of(x, unit_dim)
    programs = cdiv(units, tile["UNITS"])
    partial = state if chunks == 1 else _states((chunks, units), x)
    launch = {"WIDE": triton_accumulate_dtype(x.dtype), **tile, "num_warps": warps(setting("selectivity", "lanes"))}
    with on_device_of(x):
        _visit[(programs * chunks,)](
            x, x if order is None else order.contiguous(), *partial, points, units, chunks, point_stride, unit_stride,
            ORDERED=order is not None, ACTIVATION=activation, CHUNK=chunk, **launch,
        )  # fmt: skip
        if chunks > 1:
            _merge_chunks[(programs,)](*partial, *state, units, chunks, **launch)
    return state


def _states(shape: tuple[int, ...], x: Tensor) -> States:
    dtypes = (accumulate_dtype(x.dtype), torch.int64, torch.float64, accumulate_dtype(x.dtype))
    peak, index, rest, low = (torch.empty(shape, dtype=dtype, device=x.device) for dtype in dtypes)
    return peak, index, rest, low


def tile_of(x: Tensor, unit_dim: int) -> dict[str, int]:
    """[ROWS, UNITS] values at once, a 128-bit load per thread, long side along what memory holds side by side."""
    units, side = x.shape[unit_dim], setting("selectivity", "side")
    tile = setting("selectivity", "lanes") * vector(x.dtype)
    if x.stride(0) == 1 and x.stride(unit_dim) != 1:
        rows = min(side, setting("selectivity", "chunk"))
        return {"ROWS": rows, "UNITS": min(tile // rows, power_of_two(units))}
    width = min(side, power_of_two(units))
    return {"ROWS": min(tile // width, setting("selectivity", "chunk")), "UNITS": width}
