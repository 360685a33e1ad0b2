"""Views: images -> augmented, normalized views, in stages.

A stage takes each pixel from its source (the resized box, or the canvas that the stage before wrote, as it is or
blurred), applies the steps up to the next contrast or blur, which need the whole view, and writes it: a view's last
stage to the result, the others to a canvas. Every stage is a launch, and reads one canvas and writes another, because
a Triton program cannot wait for others nor safely read what it wrote. Canvases are bytes for uint8 images.

Launches: weights of the resize; rows of the box at the width of the view; the first stage; then for each further one
the rows of a blur, if there are any, and the stage. Views with fewer stages than others have nothing to do in the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, warps
from memkern.triton_kernels.memory import cdiv, on_device_of, power_of_two
from memkern.triton_kernels.views_colors import BLUR, CONTRAST, changed, luma, spread
from memkern.triton_kernels.views_taps import across, box_along, filter_rows, find_taps, image_of, most_taps

STEPS = 8
COLUMNS = 6 + 2 * STEPS

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _segment(row, stage, BLURS: tl.constexpr, STEPS: tl.constexpr):
    """The steps [begin, end) of a stage, and how many stages the view has after its first."""
    stops, begin, end = 0, 0, STEPS
    for k in tl.static_range(STEPS):
        code = tl.load(row + 6 + 2 * k)
        stop = (code == CONTRAST) | ((code == BLUR) & BLURS)
        begin = tl.where(stop & (stops == stage - 1), k, begin)
        end = tl.where(stop & (stops == stage), k, end)
        stops += stop.to(tl.int32)
    return tl.cast(begin, tl.int64), tl.cast(end, tl.int64), stops


@triton.jit
def _pixels(block, width, BLOCK: tl.constexpr):
    """A block of a view's pixels: their numbers, columns and rows."""
    at = block * BLOCK + tl.arange(0, BLOCK)
    number = at.to(tl.int32)  # a GPU divides 64 bits in 70 instructions
    return at, (number % width).to(tl.int64), (number // width).to(tl.int64)


@triton.jit
def _mirrored(i, size):
    """Beyond its edges a view continues as in a mirror."""
    i = tl.abs(i)
    return tl.where(i >= size, 2 * (size - 1) - i, i)


@triton.jit
def _blur_rows(
    table,
    source,  # [views, CHANNELS, height, width]
    bell,  # [all views, steps, taps] float32
    along,  # the shape of source, float32
    stage,
    first_view,
    height,
    width,
    taps,
    blocks,
    COLUMNS: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Along the rows of those views whose stage begins with a blur."""
    program = tl.cast(tl.program_id(0), tl.int64)
    own, pixels = program // blocks, tl.cast(height, tl.int64) * width
    view = first_view + own
    begin, _, stops = _segment(table + view * COLUMNS, stage, True, STEPS)
    if (stage <= stops) & (tl.load(table + view * COLUMNS + 6 + 2 * begin) == BLUR):
        at, x, y = _pixels(program % blocks, width, BLOCK)
        for channel in tl.static_range(CHANNELS):
            plane = (own * CHANNELS + channel) * pixels
            sums = tl.zeros([BLOCK], tl.float32)
            for j in range(0, taps):
                j = tl.cast(j, tl.int64)
                share = tl.load(bell + (view * STEPS + begin) * taps + j)
                pixel = tl.load(source + plane + y * width + _mirrored(x + j - taps // 2, tl.cast(width, tl.int64)),
                                mask=at < pixels, other=0).to(tl.float32)  # fmt: skip
                sums = tl.fma(pixel, spread(share, pixel), sums)
            tl.store(along + plane + at, sums, mask=at < pixels)


@triton.jit
def _stage(
    table,
    shapes,
    source,  # stage 0: narrow; else the canvas of the stage before
    first,
    count,
    weight,
    precision,
    bell,
    along,  # what _blur_rows left
    lumas,  # [views, blocks] float64, sums of the stage before
    hidden,  # [all views, height / patch, width / patch]
    target,  # canvas [views, CHANNELS, height, width]
    next_lumas,
    out,
    offset,
    image_height,
    image_width,
    stage,
    first_view,
    views,
    height,
    width,
    outputs,
    taps,
    lines,
    bell_taps,
    patch,
    blocks,
    channel_stride,  # of the result
    pixel_stride,
    mean_r,
    mean_g,
    mean_b,
    inverse_r,
    inverse_g,
    inverse_b,
    COLUMNS: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MANY: tl.constexpr,
    BYTES: tl.constexpr,
    ANTIALIAS: tl.constexpr,
    FIRST: tl.constexpr,
    BLURS: tl.constexpr,
    HIDES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    own, pixels = program // blocks, tl.cast(height, tl.int64) * width
    view = first_view + own
    row = table + view * COLUMNS
    begin, end, stops = _segment(row, stage, BLURS, STEPS)
    if stage <= stops:
        at, x, y = _pixels(program % blocks, width, BLOCK)
        inside = at < pixels
        planes = own * CHANNELS * pixels
        mean = tl.zeros([], tl.float32)
        r, g, b = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
        if FIRST:
            _, rows, _, _, _, _ = image_of(view // views, shapes, offset, image_height, image_width, 0, 0, 0, MANY)
            _, box_height = box_along(row, 0, 2, rows)
            axis = own * 2 + 1
            start = tl.load(first + axis * outputs + y, mask=inside, other=0)
            length = tl.load(count + axis * outputs + y, mask=inside, other=0)
            most = most_taps(box_height, tl.cast(height, tl.int64), ANTIALIAS)
            digits = tl.load(precision + axis) if BYTES else 0
            shares = weight + axis * taps * outputs + y
            column = source + own * CHANNELS * lines * width + start * tl.cast(width, tl.int64) + x
            size = tl.cast(lines, tl.int64) * width
            r = across(column, shares, length, most, digits, width, outputs, inside, BYTES, BLOCK)
            if CHANNELS == 3:
                g = across(column + size, shares, length, most, digits, width, outputs, inside, BYTES, BLOCK)
                b = across(column + 2 * size, shares, length, most, digits, width, outputs, inside, BYTES, BLOCK)
            if tl.load(row + 4) != 0:
                x = width - 1 - x
            if tl.load(row + 5) != 0:
                y = height - 1 - y
            at = y * width + x
        else:
            if tl.load(row + 6 + 2 * begin) == CONTRAST:
                mean = tl.div_rn(_sum_of(lumas + own * blocks, blocks).to(tl.float32), pixels.to(tl.float32))
                r = tl.load(source + planes + at, mask=inside, other=0).to(tl.float32)
                if CHANNELS == 3:
                    g = tl.load(source + planes + pixels + at, mask=inside, other=0).to(tl.float32)
                    b = tl.load(source + planes + 2 * pixels + at, mask=inside, other=0).to(tl.float32)
            else:
                shares = bell + (view * STEPS + begin) * bell_taps
                column = along + planes + x
                r = _blurred(column, shares, bell_taps, y, height, width, inside, BYTES, BLOCK)
                if CHANNELS == 3:
                    g = _blurred(column + pixels, shares, bell_taps, y, height, width, inside, BYTES, BLOCK)
                    b = _blurred(column + 2 * pixels, shares, bell_taps, y, height, width, inside, BYTES, BLOCK)
        for k in range(begin, end):
            step = row + 6 + 2 * tl.cast(k, tl.int64)
            code, value = tl.load(step), tl.load(step + 1)
            r, g, b = changed(code, value, mean, r, g, b, BYTES, CHANNELS == 3)
        if stage < stops:
            tl.store(target + planes + at, r.to(target.dtype.element_ty), mask=inside)
            if CHANNELS == 3:
                tl.store(target + planes + pixels + at, g.to(target.dtype.element_ty), mask=inside)
                tl.store(target + planes + 2 * pixels + at, b.to(target.dtype.element_ty), mask=inside)
            gray = luma(r, g, b, BYTES) if CHANNELS == 3 else r
            tl.store(next_lumas + program, tl.sum(tl.where(inside, gray, 0.0).to(tl.float64), 0))
        else:
            to_one: tl.constexpr = 1.0 / 255.0 if BYTES else 1.0
            shown = inside
            if HIDES:
                tile = (view * (height // patch) + y // patch) * (width // patch) + x // patch
                shown = tl.load(hidden + tile, mask=inside, other=1) == 0
            to = out + view * CHANNELS * pixels + at * pixel_stride
            tl.store(to, tl.where(shown, (r * to_one - mean_r) * inverse_r, 0.0).to(out.dtype.element_ty), mask=inside)
            if CHANNELS == 3:
                g, b = (g * to_one - mean_g) * inverse_g, (b * to_one - mean_b) * inverse_b
                tl.store(to + channel_stride, tl.where(shown, g, 0.0).to(out.dtype.element_ty), mask=inside)
                tl.store(
                    to + 2 * tl.cast(channel_stride, tl.int64),
                    tl.where(shown, b, 0.0).to(out.dtype.element_ty),
                    mask=inside,
                )


@triton.jit
def _blurred(column, shares, taps, y, height, width, inside, BYTES: tl.constexpr, BLOCK: tl.constexpr):
    """The second half of a blur, across the rows."""
    sums = tl.zeros([BLOCK], tl.float32)
    for j in range(0, taps):
        j = tl.cast(j, tl.int64)
        line = _mirrored(y + j - taps // 2, tl.cast(height, tl.int64))
        pixel = tl.load(column + line * width, mask=inside, other=0.0)
        sums = tl.fma(pixel, spread(tl.load(shares + j), pixel), sums)
    return (sums + 12582912.0) - 12582912.0 if BYTES else sums  # to whole numbers, half to even


@triton.jit
def _sum_of(lumas, blocks):
    total = tl.zeros([256], tl.float64)
    for start in range(0, blocks, 256):
        i = start + tl.arange(0, 256)
        total += tl.load(lumas + i, mask=i < blocks, other=0.0)
    return tl.sum(total, 0)


# ---- host ---------------------------------------------------------------------------------------------------------


def views(
    images: Sequence[Tensor], params: Tensor, hidden: Tensor | None, patch: int, stages: int, antialias: bool,
    blur_size: int, mean: Sequence[float], std: Sequence[float], out: Tensor,
) -> None:  # fmt: skip
    """The forward of ``torch.ops.memkern.views``.

    Args:
        images: Batches [n, C, H, W], each of equally large images. One batch is read in place; several are copied
            into one piece of memory first.
        params: [N, V, 22] float32.
        hidden: [N, V, h / patch, w / patch] bool, or None.
        patch: Edge of a patch.
        stages: The most that a view has: one more than its contrasts and blurs.
        antialias: Whether shrinking averages over all pixels it covers.
        blur_size: Taps of a blur; 0: there is none.
        mean: Of each channel.
        std: Of each channel.
        out: [N, V, C, h, w], contiguous or channels-last, is written.
    """
    if out.numel() == 0:
        return
    if out.shape[3] * out.shape[4] >= 2**31:
        raise ValueError(f"Expected views of fewer than 2**31 pixels for triton, got {list(out.shape[3:])}; use cuda")
    (n, per_image, channels, height, width), bytes_ = out.shape, images[0].dtype == torch.uint8
    params = params.contiguous()
    hides = hidden is not None
    masks = params if hidden is None else hidden.to(torch.uint8).contiguous()
    memory, shapes, strides = _one_memory(images)
    highest, widest = max(batch.shape[2] for batch in images), max(batch.shape[3] for batch in images)
    taps = max(_most_taps(highest, height, antialias), _most_taps(widest, width, antialias))
    outputs, pixels = max(height, width), height * width
    block = min(setting("views", "block"), power_of_two(pixels))
    columns = min(setting("views", "columns"), power_of_two(width))
    rows = min(max(1, setting("views", "block") // columns), power_of_two(highest))
    blocks, row_blocks, column_blocks = (
        cdiv(pixels, block), cdiv(highest, rows), cdiv(width, columns),
    )  # fmt: skip
    of_a_view = channels * ((highest * width + 2 * pixels) * (1 if bytes_ else 4) + (pixels * 4 if blur_size else 0))
    at_once = min(n * per_image, max(1, (setting("views", "scratch MB") << 20) // of_a_view))

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=out.device)

    stored, kept = torch.int32 if bytes_ else torch.float32, torch.uint8 if bytes_ else torch.float32
    first, count = empty(at_once, 2, outputs, dtype=torch.int32), empty(at_once, 2, outputs, dtype=torch.int32)
    weight, precision = empty(at_once, 2, taps, outputs, dtype=stored), empty(at_once, 2, dtype=torch.int32)
    narrow = empty(at_once, channels, highest, width, dtype=kept)
    canvases = [empty(at_once if stages > 1 else 1, channels, height, width, dtype=kept) for _ in range(2)]
    lumas = [empty(at_once, blocks, dtype=torch.float64) for _ in range(2)]
    along = empty(at_once if blur_size else 1, channels, height, width, dtype=torch.float32)
    bell = _bells(params, blur_size) if blur_size else along
    scale: list[float] = [*mean[:3], *(1.0 / value for value in torch.tensor(std[:3]).tolist())]
    last = out.stride(2) == 1 and channels > 1
    kind = {"COLUMNS": COLUMNS, "MANY": shapes is not None, "BYTES": bytes_, "ANTIALIAS": antialias}
    launch: dict[str, Any] = {"num_warps": warps(setting("views", "lanes")), "enable_fp_fusion": False}
    sizes = memory if shapes is None else shapes
    with on_device_of(out):
        for begin in range(0, n * per_image, at_once):
            here = min(at_once, n * per_image - begin)
            find_taps[(here * 2,)](
                params, sizes, first, count, weight, precision, *strides, begin, per_image, height, width, outputs,
                taps, **kind, BLOCK=setting("views", "outputs"), **launch,
            )  # fmt: skip
            filter_rows[(here * channels * row_blocks * column_blocks,)](
                memory, params, sizes, first, count, weight, precision, narrow, *strides, begin, per_image, width,
                outputs, taps, highest, row_blocks, column_blocks, **kind, CHANNELS=channels, ROWS=rows,
                WIDTH=columns, **launch,
            )  # fmt: skip
            for stage in range(stages):
                source, target = canvases[stage % 2], canvases[1 - stage % 2]
                if stage > 0 and blur_size:
                    _blur_rows[(here * blocks,)](
                        params, source, bell, along, stage, begin, height, width, blur_size, blocks, COLUMNS=COLUMNS,
                        STEPS=STEPS, CHANNELS=channels, BLOCK=block, **launch,
                    )  # fmt: skip
                _stage[(here * blocks,)](
                    params, sizes, source if stage else narrow, first, count, weight, precision, bell, along,
                    lumas[stage % 2], masks, target, lumas[1 - stage % 2], out, *strides[:3], stage, begin, per_image,
                    height, width, outputs, taps, highest, blur_size, patch, blocks, 1 if last else pixels,
                    channels if last else 1, *scale, **kind, STEPS=STEPS, CHANNELS=channels, FIRST=stage == 0,
                    BLURS=blur_size > 0, HIDES=hides, BLOCK=block, **launch,
                )  # fmt: skip


def _most_taps(source: int, target: int, antialias: bool) -> int:
    if not antialias or source <= target:
        return 3 if antialias else 2
    return -(-source // target) * 2 + 1


def _one_memory(images: Sequence[Tensor]) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """A tensor to read from, the shapes of its images if they differ, and what is the same for all of them.

    Triton kernels take tensors and not tables of addresses, so several batches are copied into one.
    """
    first = images[0]
    stride, *strides = first.stride()
    if len(images) == 1:
        return first, None, (stride, *first.shape[2:], *strides)
    table, start = [], 0
    for batch in images:
        _, channels, height, width = batch.shape
        for _ in range(len(batch)):
            table.append((start, height, width, height * width, width, 1))
            start += channels * height * width
    memory = torch.cat([batch.reshape(-1) for batch in images])
    return memory, torch.tensor(table, device=first.device), (0, 0, 0, 0, 0, 0)


def _bells(params: Tensor, taps: int) -> Tensor:
    """[views, steps, taps]: the weights of the blur whose standard deviation a step's value is."""
    sigma = params.flatten(0, 1)[:, 7::2, None].double()
    away = (torch.arange(taps, dtype=torch.float64, device=params.device) - (taps - 1) / 2) / sigma
    bell = (-0.5 * away * away).exp()
    share = bell / bell.sum(2, keepdim=True)
    return share.where(share >= 1e-30, 0.0).float()
