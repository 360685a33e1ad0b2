"""Views on tiny images: every kernel and every branch of the launcher, against the CPU kernels.

Those are compared with torchvision elsewhere, whose import throws C++ exceptions that ASan cannot bear. gpu.tiny runs
the cases with its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from gpu import emulated
from torch import Tensor

import memkern
from memkern import ViewSpec
from memkern.transforms import COLUMNS, STEPS
from python_tests.helpers import testing

Case = tuple[str, Callable[[], None]]
CODE = {name: code for code, name in enumerate(STEPS)}
# In the order of a program: a contrast after a blur, two blurs, two contrasts; nothing; every other step.
PROGRAMS: tuple[dict[str, float], ...] = (
    {"brightness": 1.3, "hue": -0.2, "contrast": 0.6, "saturation": 1.7, "blur": 0.8, "solarize": 100.0},
    {},
    {"contrast": 1.4, "gray": 0.0, "invert": 0.0},
    {"blur": 1.5, "contrast": 0.5, "hue": 0.4},
)


def images(count: int, height: int, width: int, channels: int, pixel: torch.dtype) -> list[Tensor]:
    """Images [C, H, W] side by side in memory."""
    draw = testing.rng("tiny", count, height, width, channels)
    whole = torch.randint(256, (count, channels, height, width), generator=draw, dtype=torch.uint8)
    return list(whole if pixel == torch.uint8 else whole.float() / 255)


def table(sizes: list[tuple[int, int]], programs: tuple[dict[str, float], ...] = PROGRAMS) -> Tensor:
    """[images, programs, 22]: each program on a box of its own, with every pair of flips in turn."""
    rows = torch.zeros(len(sizes), len(programs), len(COLUMNS))
    for i, (height, width) in enumerate(sizes):
        for v, program in enumerate(programs):
            top, left = (i + v) % height, (2 * i + v) % width
            rows[i, v, :6] = torch.tensor([top, left, height - top, width - left, v % 2, v // 2 % 2])
            for k, (step, value) in enumerate(program.items()):
                rows[i, v, 6 + 2 * k : 8 + 2 * k] = torch.tensor([CODE[step], value])
    return rows


def check(
    each: list[Tensor], size: tuple[int, int], programs: tuple[dict[str, float], ...] = PROGRAMS, blur_size: int = 3,
    **options: bool | torch.dtype,
) -> None:  # fmt: skip
    """uint8: the same bits; float: within 1e-5, doubled by normalization, as means are summed otherwise."""
    rows = table([(image.shape[1], image.shape[2]) for image in each], programs)
    spec = ViewSpec(antialias=bool(options.get("antialias", True)), blur_size=blur_size)
    want = memkern.views(each, params=rows, transform=spec, size=size, backend="cpu")
    got = emulated.views(each, rows, size, blur_size=blur_size, **options)  # type: ignore[arg-type]
    narrow = torch.finfo(got.dtype).eps if got.dtype != torch.float32 else 0.0
    allowed = (0.0 if each[0].dtype == torch.uint8 else 2e-5) + narrow
    error = (got.float() - want).abs().max().item()
    assert not math.isnan(error), "views differ in being NaN"
    assert error <= allowed, f"views differ by {error:.3g}, expected {allowed:.3g}"


def check_masks() -> None:
    each = images(2, 6, 6, 3, torch.uint8)
    rows = table([(6, 6)] * 2, ({}, {}))
    hidden = torch.rand(2, 2, 2, 4, generator=testing.rng("masks")) < 0.5
    spread = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, None]
    for last in (False, True):
        plain = emulated.views(each, rows, (4, 8), channels_last=last)
        got = emulated.views(each, rows, (4, 8), hidden=hidden, patch=2, channels_last=last)
        assert torch.equal(got, torch.where(spread, 0.0, plain)), "masks differ"


def check_far_apart() -> None:
    """Images 2^30 elements apart: addresses pass 2^31."""
    near = torch.stack(images(4, 5, 4, 3, torch.uint8))
    memory = torch.empty(3 * 2**30 + near[0].numel(), dtype=torch.uint8)
    far = memory.as_strided(near.shape, (2**30, *near.stride()[1:])).copy_(near)
    rows = table([(5, 4)] * 4, ({}, {"hue": 0.1}))
    assert torch.equal(emulated.views(list(far), rows, (4, 4)), emulated.views(list(near), rows, (4, 4)))


def check_many_sizes() -> None:
    """More sizes than a launch takes (kViewRuns), with runs of equal ones among them."""
    each = [image for i in range(50) for image in images(1 + i % 5 // 4, 1 + i % 5, 1 + i % 7, 1, torch.uint8)]
    check(each, (3, 2), ({},))


def check_many_views() -> None:
    """More than there are blocks: a block takes one after the other."""
    check(images(280, 4, 3, 1, torch.uint8), (3, 2))


def cases() -> Iterator[Case]:
    """Every case by name."""
    for pixel in (torch.uint8, torch.float32):
        name = str(pixel).removeprefix("torch.")
        for channels in (1, 3):
            one = images(2, 7, 9, channels, pixel)
            for antialias in (True, False):
                yield (
                    f"images {name} {channels} small antialias={antialias}",
                    lambda one=one, a=antialias: check(one, (6, 5), antialias=a),
                )
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                for last in (False, True):
                    yield (
                        f"images {name} {channels} {dtype} last={last}",
                        lambda one=one, d=dtype, c=last: check(
                            one, (4, 5), ({"hue": 0.3}, {"contrast": 1.2}), dtype=d, channels_last=c
                        ),
                    )
        yield f"images {name} misaligned", lambda one=one: check(one, (6, 8), PROGRAMS[:1], skipped=1)
        # more pixels than a small view has; several tiles of rows and of columns
        wide = images(1, 3, 5, 3, pixel)
        yield f"images {name} large", lambda wide=wide: check(wide, (66, 65), PROGRAMS[:1])
        # a blur too wide for the shared memory of a small view; rows too long for that of any
        yield f"images {name} blur", lambda wide=wide: check(wide, (47, 48), ({"blur": 5.0},), blur_size=91)
        tall = images(1, 3000 if pixel == torch.uint8 else 900, 2, 3, pixel)
        yield f"images {name} tall", lambda tall=tall: check(tall, (2, 3), ({"contrast": 0.5},))
        yield f"images {name} narrow", lambda tall=tall: check(tall, (70, 3), ({},))
        for shape in ((1, 1), (1, 6), (6, 1)):
            dot = images(1, *shape, 3, torch.float32)
            yield f"images {name} of {shape}", lambda dot=dot: check(dot, (3, 4), ({},))
    yield "images masks", check_masks
    yield "images far apart", check_far_apart
    yield "images of many sizes", check_many_sizes
    yield "images many views", check_many_views
