"""Class sums: [points, units] means and labels -> the sum of each class's rows, in float64.

Points are sorted by label first (stably, by torch, on the GPU), so a program reads the rows of its class one after the
other and every row is read once; the order of a sum is the order of the points.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, warps
from memkern.triton_kernels.memory import cdiv, on_device_of, power_of_two


@triton.jit
def _sum_class(
    means,  # [points, units]
    order,  # [points] int64, points sorted by class
    starts,  # [classes + 1] int64, where each class starts in the order
    sums,  # [classes, units] float64
    units,
    unit_blocks,
    point_stride,
    unit_stride,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    label = program // unit_blocks
    unit = (program % unit_blocks * UNITS + tl.arange(0, UNITS))[None, :]
    end = tl.load(starts + label + 1)
    total = tl.zeros([ROWS, UNITS], tl.float64)
    first = tl.load(starts + label)
    position = (first + tl.arange(0, ROWS))[:, None]
    point = tl.load(order + position, mask=position < end, other=0)
    for _ in range(first, end, ROWS):
        row = means + point * point_stride + unit * unit_stride
        values = tl.load(row, mask=(position < end) & (unit < units), other=0.0)
        position += ROWS
        point = tl.load(order + position, mask=position < end, other=0)  # of the next rows, while these arrive
        total += values.to(tl.float64)
    tl.store(sums + label * units + unit, tl.sum(total, 0, keep_dims=True), mask=unit < units)


def class_sums(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The forward of ``torch.ops.memkern.class_sums``.

    Args:
        means: [N, U] float32 or float64.
        labels: [N] int64 in [0, classes).
        classes: How many classes; one without a point sums to 0.

    Returns:
        [classes, U] float64.
    """
    units = means.shape[1]
    sums = torch.empty((classes, units), dtype=torch.float64, device=means.device)
    if sums.numel() == 0:
        return sums
    narrow = torch.int16 if classes < 2**15 else torch.int32 if classes < 2**31 else torch.int64
    ordered, order = labels.to(narrow).sort(stable=True)  # torch sorts by digits: the fewer, the quicker
    starts = torch.searchsorted(ordered, torch.arange(classes + 1, dtype=narrow, device=labels.device))
    width = min(setting("class_sums", "side"), power_of_two(units))
    blocks = cdiv(units, width)
    with on_device_of(means):
        _sum_class[(classes * blocks,)](
            means, order, starts, sums, units, blocks, means.stride(0), means.stride(1),
            ROWS=setting("class_sums", "tile") // width, UNITS=width, num_warps=warps(setting("class_sums", "lanes")),
        )  # fmt: skip
    return sums
