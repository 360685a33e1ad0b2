"""Resizing the box of an image by torch's arithmetic: weights along each axis, then the rows, then across them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def image_of(
    image,
    shapes,  # [images, 6] int64 offset, height, width, strides of channels, rows and columns; with MANY
    offset,
    height,
    width,
    channel_stride,
    row_stride,
    column_stride,
    MANY: tl.constexpr,
):
    """The same six numbers of an image: its own if images differ, else those of all but for the offset."""
    if MANY:
        at = shapes + image * 6
        return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3), tl.load(at + 4), tl.load(at + 5)
    else:
        return (
            image * offset, tl.cast(height, tl.int64), tl.cast(width, tl.int64), tl.cast(channel_stride, tl.int64),
            tl.cast(row_stride, tl.int64), tl.cast(column_stride, tl.int64),
        )  # fmt: skip


@triton.jit
def box_along(row, start: tl.constexpr, length: tl.constexpr, size):
    """First pixel and length of a box along an axis.

    The host cannot check a table that lies on the device: a box outside of its image is moved inside.
    """
    extent = tl.minimum(tl.maximum(tl.load(row + length).to(tl.int64), 1), size)
    return tl.minimum(tl.maximum(tl.load(row + start).to(tl.int64), 0), size - extent), extent


@triton.jit
def most_taps(source, target, ANTIALIAS: tl.constexpr):
    """The most inputs that one output reads."""
    if ANTIALIAS:
        return tl.where(source <= target, 3, (source + target - 1) // target * 2 + 1)
    else:
        return tl.where(source <= target, 2, 2)


@triton.jit
def windows(i, source, target, ANTIALIAS: tl.constexpr, REAL: tl.constexpr):
    """Finds of each output its first input, how many it reads, and for `weights` a center and a width or shares."""
    scale = _divided(tl.cast(source, REAL), tl.cast(target, REAL))
    if ANTIALIAS:
        support = tl.where(scale >= 1.0, scale, 1.0)
        center = scale * (i.to(REAL) + 0.5)
        first = tl.maximum((center - support + 0.5).to(tl.int64), 0)
        last = tl.minimum((center + support + 0.5).to(tl.int64), source)
        count = tl.minimum(last - first, most_taps(source, target, ANTIALIAS))
        left, right = center, _divided(tl.full(i.shape, 1.0, REAL), support + tl.zeros(i.shape, REAL))
    else:
        position = (scale.to(tl.float64) * (i.to(tl.float64) + 0.5) - 0.5).to(REAL)
        position = tl.where(position < 0, 0.0, position)
        first = tl.minimum(position.to(tl.int64), source - 1)
        count = tl.where(first + 1 < source, 2, 1).to(tl.int64)
        right = position - first.to(REAL)
        left = tl.where(count == 2, 1.0 - right, 1.0)
    same = source == target  # as it is: no neighbor, NaN perhaps, may enter with a weight of 0
    return tl.where(same, i, first), tl.where(same, 1, count), left, right


@triton.jit
def weights(j, first, count, left, right, same, ANTIALIAS: tl.constexpr):
    """The weight of input ``first + j`` of each output, that of a triangle before it is divided by their sum."""
    if ANTIALIAS:
        away = tl.abs(((first + j).to(left.dtype) - left + 0.5) * right)
        weight = tl.where(away < 1.0, 1.0 - away, 0.0)
    else:
        weight = tl.where(first * 0 + j == 0, left, right)
    weight = tl.where(same, 1.0, weight)
    return tl.where(j < count, weight, 0.0).to(left.dtype)


@triton.jit
def find_taps(
    table,  # parameters, [views, columns]
    shapes,
    first,  # [views, 2, OUTPUTS] int32; axis 0: columns, 1: rows
    count,  # the same
    weight,  # [views, 2, taps, OUTPUTS] int32 of 2^-precision (uint8 images) or float32
    precision,  # [views, 2] int32
    offset,
    image_height,
    image_width,
    channel_stride,
    row_stride,
    column_stride,
    first_view,
    views,  # of an image
    height,
    width,
    outputs,
    taps,
    COLUMNS: tl.constexpr,
    MANY: tl.constexpr,
    BYTES: tl.constexpr,
    ANTIALIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the taps of one axis of one view a program; whole weights need the largest first, so are found twice."""
    REAL: tl.constexpr = tl.float64 if BYTES else tl.float32
    program = tl.cast(tl.program_id(0), tl.int64)
    own, axis = program // 2, program % 2
    view = first_view + own
    _, rows, columns, _, _, _ = image_of(
        view // views, shapes, offset, image_height, image_width, channel_stride, row_stride, column_stride, MANY
    )
    row = table + view * COLUMNS
    _, box_height = box_along(row, 0, 2, rows)
    _, box_width = box_along(row, 1, 3, columns)
    source = tl.where(axis == 0, box_width, box_height)
    target = tl.where(axis == 0, width, height).to(tl.int64)
    same, most = source == target, most_taps(source, target, ANTIALIAS)
    digits = 0
    if BYTES:
        largest = tl.zeros([BLOCK], REAL)
        for start in range(0, target, BLOCK):
            i = tl.minimum(tl.cast(start, tl.int64) + tl.arange(0, BLOCK), target - 1)
            begin, length, left, right = windows(i, source, target, ANTIALIAS, REAL)
            total = _total(most, begin, length, left, right, same, ANTIALIAS)
            for j in range(0, most):
                share = weights(tl.cast(j, tl.int64), begin, length, left, right, same, ANTIALIAS) / total
                largest = tl.where(share > largest, share, largest)
        digits = _digits(tl.max(largest, 0))
        tl.store(precision + program, digits)
    to = program * taps * outputs
    for start in range(0, target, BLOCK):
        i = tl.cast(start, tl.int64) + tl.arange(0, BLOCK)
        begin, length, left, right = windows(tl.minimum(i, target - 1), source, target, ANTIALIAS, REAL)
        tl.store(first + program * outputs + i, begin.to(tl.int32), mask=i < target)
        tl.store(count + program * outputs + i, length.to(tl.int32), mask=i < target)
        total = _total(most, begin, length, left, right, same, ANTIALIAS)
        for j in range(0, most):
            j = tl.cast(j, tl.int64)
            share = _divided(weights(j, begin, length, left, right, same, ANTIALIAS), total)
            if BYTES:
                share = (0.5 + share * _power_of_two(digits)).to(tl.int32)
            tl.store(weight + to + j * outputs + i, share, mask=i < target)


@triton.jit
def _total(most, first, count, left, right, same, ANTIALIAS: tl.constexpr):
    """Computes the divisor of weights: the sum of a triangle's, else 1."""
    if ANTIALIAS:
        total = tl.zeros(first.shape, left.dtype)
        for j in range(0, most):
            total += weights(tl.cast(j, tl.int64), first, count, left, right, same, ANTIALIAS)
        return total
    else:
        return tl.full(first.shape, 1.0, left.dtype)


@triton.jit
def _digits(largest):
    """Finds the digits after the binary point, up to 22, that keep the largest weight below 2^15."""
    digits = 0
    for k in tl.static_range(22):
        fits = (0.5 + largest * _power_of_two(tl.full([], k + 1, tl.int32))).to(tl.int64) < 32768
        digits = tl.where(fits & (digits == k), k + 1, digits)
    return digits


@triton.jit
def _power_of_two(digits):
    return (tl.full([], 1, tl.int32) << digits).to(tl.float64)


@triton.jit
def _divided(a, b):
    """Rounded as IEEE says: `/` of float32 is not."""
    return a / b if a.dtype == tl.float64 else tl.div_rn(a, b)


@triton.jit
def filter_rows(
    images,
    table,  # parameters, [views, columns]
    shapes,  # as image_of takes them
    first,
    count,
    weight,
    precision,  # as find_taps leaves them
    narrow,  # [views, CHANNELS, lines, width]: rows of the boxes at the width of the view
    offset,
    image_height,
    image_width,
    channel_stride,
    row_stride,
    column_stride,
    first_view,
    views,
    width,
    outputs,
    taps,
    lines,
    row_blocks,
    column_blocks,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MANY: tl.constexpr,
    BYTES: tl.constexpr,
    ANTIALIAS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """A tile of one channel of a view's box, along its rows."""
    program = tl.cast(tl.program_id(0), tl.int64)
    x = (program % column_blocks * WIDTH + tl.arange(0, WIDTH))[None, :]
    y = (program // column_blocks % row_blocks * ROWS + tl.arange(0, ROWS))[:, None]
    plane = program // column_blocks // row_blocks
    own, channel = plane // CHANNELS, plane % CHANNELS
    view = first_view + own
    start, rows, columns, channel_stride, row_stride, column_stride = image_of(
        view // views, shapes, offset, image_height, image_width, channel_stride, row_stride, column_stride, MANY
    )
    row = table + view * COLUMNS
    top, box_height = box_along(row, 0, 2, rows)
    left, box_width = box_along(row, 1, 3, columns)
    axis = own * 2
    there = (y < box_height) & (x < width)
    begin = tl.load(first + axis * outputs + x, mask=x < width, other=0)
    length = tl.load(count + axis * outputs + x, mask=x < width, other=0)
    corner = images + start + channel * channel_stride + top * row_stride + left * column_stride
    digits = tl.load(precision + axis) if BYTES else 0
    sums = tl.zeros([ROWS, WIDTH], tl.int32) + (1 << (digits - 1)) if BYTES else tl.zeros([ROWS, WIDTH], tl.float32)
    for j in range(0, most_taps(box_width, tl.cast(width, tl.int64), ANTIALIAS)):
        j = tl.cast(j, tl.int64)
        inside = j < length
        share = tl.load(weight + (axis * taps + j) * outputs + x, mask=inside & (x < width), other=0)
        pixel = tl.load(corner + y * row_stride + (begin + j) * column_stride, mask=there & inside, other=0)
        sums += pixel.to(sums.dtype) * share
    tl.store(narrow + (plane * lines + y) * width + x, _whole(sums, digits, BYTES), mask=there)


@triton.jit
def _whole(sums, digits, BYTES: tl.constexpr):
    """A pixel of a sum: of uint8 images rounded to uint8."""
    return tl.minimum(sums >> digits, 255).to(tl.uint8) if BYTES else sums


@triton.jit
def across(
    column, shares, length, most, digits, width, outputs, inside, BYTES: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The second half of a resize: the rows of a box at the width of the view, weighted."""
    sums = tl.zeros([BLOCK], tl.int32) + (1 << (digits - 1)) if BYTES else tl.zeros([BLOCK], tl.float32)
    for j in range(0, most):
        j = tl.cast(j, tl.int64)
        share = tl.load(shares + j * outputs, mask=inside & (j < length), other=0)
        pixel = tl.load(column + j * width, mask=inside & (j < length), other=0)
        sums += pixel.to(sums.dtype) * share
    return _whole(sums, digits, BYTES).to(tl.float32)
