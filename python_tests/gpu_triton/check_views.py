"""The Triton views against torchvision on the same parameters: every step, stage, dtype, layout, and the hazards."""

from __future__ import annotations

import dataclasses
import itertools
from unittest import mock

import pytest
import torch
import triton
import triton.language as tl
from support import on_cpu, on_device
from torch import Tensor

from memkern import reference
from memkern.transforms import COLUMNS, N_STEPS, PRESETS, STEPS, view_params
from memkern.triton_kernels import launches, views_taps
from memkern.triton_kernels.views import _sum_of, views
from python_tests.helpers import testing

CODE = {name: code for code, name in enumerate(STEPS)}
HALF = (0.5, 0.5, 0.5)
PIXELS = pytest.mark.parametrize("pixel", [torch.uint8, torch.float32], ids=["uint8", "float32"])


def photos(n: int, height: int, width: int, channels: int = 3, pixel: torch.dtype = torch.uint8) -> Tensor:
    x = torch.randint(256, (n, channels, height, width), generator=testing.rng("photos", n, height), dtype=torch.uint8)
    return x if pixel == torch.uint8 else x.float() / 255


def table(*programs: dict[str, float], box: tuple[int, int, int, int], flips: tuple[int, int] = (0, 0)) -> Tensor:
    """[1, V, 22]: one row for each program {step: value}."""
    rows = torch.zeros(1, len(programs), len(COLUMNS))
    for v, program in enumerate(programs):
        rows[0, v, :6] = torch.tensor([*box, *flips])
        for k, (step, value) in enumerate(program.items()):
            rows[0, v, 6 + 2 * k : 8 + 2 * k] = torch.tensor([CODE[step], value])
    return rows


def check(
    images: list[Tensor], rows: Tensor, size: tuple[int, int], *, blur_size: int = 3, antialias: bool = True,
    dtype: torch.dtype = torch.float32, last: bool = False, hidden: Tensor | None = None, stages: int = 4,
) -> Tensor:  # fmt: skip
    """uint8: within 1/255 of torchvision; float: within 1e-5; both doubled by the normalization with 0.5."""
    # Under ttsem every tensor says that it is on a GPU, and torchvision resizes uint8 images there in float32.
    with mock.patch.object(torch.Tensor, "device", torch._C.TensorBase.device):
        want = reference.views(
            images, rows, size=size, antialias=antialias, blur_size=blur_size, hidden=hidden, patch=2
        )
    channels = images[0].shape[1]
    shape = (*rows.shape[:2], *size, channels) if last else (*rows.shape[:2], channels, *size)
    out = on_device(torch.full(shape, torch.nan, dtype=dtype))
    out = out.permute(0, 1, 4, 2, 3) if last else out
    masks = None if hidden is None else on_device(hidden)
    memory = [on_device(batch) for batch in images]
    views(memory, on_device(rows), masks, 2, stages, antialias, blur_size, HALF, HALF, out)
    got = on_cpu(out).float()
    assert torch.equal(got.isnan(), want.isnan())
    allowed = 2.02 / 255 if images[0].dtype == torch.uint8 else 2e-5
    allowed += torch.finfo(dtype).eps if dtype != torch.float32 else 0.0
    assert (got - want).abs().nan_to_num(0.0).max() <= allowed
    return got


@PIXELS
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("image", "size"), [((23, 40), (9, 7)), ((5, 6), (17, 12))], ids=str)
def test_sizes(image, size, antialias, pixel):
    """Shrunk and enlarged, flipped both ways; some hues pass the end of their circle."""
    rows = table({"hue": 0.5}, box=(1, 2, image[0] - 2, image[1] - 3), flips=(1, 1))
    check([photos(1, *image, pixel=pixel)], rows, size, antialias=antialias, stages=1)


@triton.jit
def write_sum(lumas, total, blocks):
    tl.store(total, _sum_of(lumas, blocks))


def test_luma_of_many_blocks():
    """More than are added at once: of a view of 400 x 400 pixels."""
    lumas, total = torch.arange(700.0, dtype=torch.float64), on_device(torch.zeros(1, dtype=torch.float64))
    write_sum[(1,)](on_device(lumas), total, 600)
    assert on_cpu(total).item() == 600 * 599 / 2


@triton.jit
def write_digits(largest, digits):
    program = tl.program_id(0)
    tl.store(digits + program, views_taps._digits(tl.load(largest + program)))


def test_digits_of_whole_weights():
    """As many as keep the largest below 2^15, as torch has them; 22 at most."""
    largest = torch.tensor([1.0, 1 - 2**-15, 1 - 2**-17, 0.6, 0.5, 0.3, 0.01, 1e-6], dtype=torch.float64)
    digits = on_device(torch.zeros(len(largest), dtype=torch.int32))
    write_digits[(len(largest),)](on_device(largest), digits)
    assert on_cpu(digits).tolist() == [
        max(d for d in range(23) if d == 0 or int(0.5 + share * 2**d) < 2**15) for share in largest.tolist()
    ]


def test_several_programs_a_view():
    rows = table({"contrast": 0.6}, {}, box=(0, 0, 30, 28))
    check([photos(1, 30, 28)], rows, (30, 28), stages=2)


@PIXELS
def test_each_step(pixel):
    values = {"hue": -0.4, "solarize": 130.3, "blur": 4.0}
    rows = table(*({step: values.get(step, 1.6)} for step in STEPS[1:]), box=(0, 0, 8, 9))
    check([photos(1, 8, 9, pixel=pixel)], rows, (8, 9), blur_size=5, stages=2)


@PIXELS
@pytest.mark.parametrize("channels", [1, 3])
def test_stages(channels, pixel):
    """Contrasts and blurs one after the other, in views that have more and fewer of them than others."""
    rows = table(
        {"blur": 0.8, "contrast": 0.5, "blur ": 2.0, "invert": 0.0}, {"gray": 0.0, "contrast": 1.5}, {},
        box=(0, 1, 9, 10),
    )  # fmt: skip
    check([photos(1, 9, 12, channels, pixel)], rows, (8, 9), stages=1 + N_STEPS if channels == 1 else 4)


CODE["blur "] = CODE["blur"]  # a second blur in one program


@pytest.mark.parametrize("order", list(itertools.permutations(("brightness", "contrast", "saturation", "hue")))[::11])
def test_jitter_orders(order):
    values = {"brightness": 1.4, "contrast": 0.3, "saturation": 1.8, "hue": -0.3}
    check([photos(1, 7, 8)], table({name: values[name] for name in order}, box=(0, 0, 7, 8)), (6, 8), stages=2)


@PIXELS
@pytest.mark.parametrize("name", ["byol-2", "strong"])
def test_presets(name, pixel):
    spec = dataclasses.replace(PRESETS[name], blur_size=3, size=None)
    rows = view_params(spec, n_views=1, seed=3, index=range(2), image_size=(12, 14))
    rows[..., 7::2] += 0.25 * (rows[..., 6::2] == CODE["solarize"])  # between the float pixels, which are n / 255
    check([photos(2, 12, 14, pixel=pixel)], rows, (12, 14), stages=3)


@pytest.mark.parametrize(
    ("dtype", "last", "channels"),
    [(torch.float32, True, 3), (torch.bfloat16, False, 3), (torch.float16, True, 1), (torch.bfloat16, True, 3)],
    ids=str,
)
def test_results(dtype, last, channels):
    rows = table({"contrast": 1.4}, {"invert": 0.0}, box=(0, 0, 5, 6))
    check([photos(1, 5, 6, channels)], rows, (6, 4), dtype=dtype, last=last, stages=2)


@pytest.mark.parametrize("last", [False, True])
def test_masks(last):
    hidden = torch.rand(1, 2, 2, 3, generator=testing.rng("masks")) < 0.5
    check([photos(1, 4, 6)], table({}, {"gray": 0.0}, box=(0, 0, 4, 6)), (4, 6), hidden=hidden, last=last, stages=1)


@PIXELS
def test_images_of_different_sizes(pixel):
    images = [photos(1, *shape, pixel=pixel) for shape in ((6, 15), (11, 4), (1, 1))]
    rows = torch.cat([table({"contrast": 0.7}, box=(0, 0, *image.shape[2:])) for image in images])
    check(images, rows, (7, 8), stages=2)


@pytest.mark.parametrize("layout", ["channels last", "cut out", "columns first", "expanded"])
def test_layouts(layout):
    x = photos(3, 6, 7)
    x = {
        "channels last": lambda: x.contiguous(memory_format=torch.channels_last),
        "cut out": lambda: torch.nn.functional.pad(x, (3, 5, 2, 1))[:, :, 2:-1, 3:-5],
        "columns first": lambda: x.mT.contiguous().mT,
        "expanded": lambda: x[:1].expand(3, -1, -1, -1),
    }[layout]()
    rows = torch.cat([table({}, box=(1, 0, 4, 6))] * 3)
    check([x], rows, (5, 5), stages=1)


@pytest.mark.parametrize("box", [(8, 10, 1, 1), (3, 0, 1, 11)], ids=str)
def test_small_boxes(box):
    check([photos(1, 9, 11)], table({}, {"contrast": 1.5, "hue": 0.2}, box=box, flips=(0, 1)), (9, 3), stages=2)


def test_nan_spreads_as_torchvisions():
    images = photos(1, 8, 8, pixel=torch.float32)
    images[0, 1, 3, 4] = torch.nan
    programs = [{}, *({step: 0.4} for step in ("contrast", "saturation", "hue", "solarize", "blur"))]
    check([images], table(*programs, box=(0, 0, 8, 8)), (11, 6), stages=2)


def test_a_box_outside_of_its_image_is_moved_inside():
    """A table on a GPU is not looked at by the host."""
    images, rows = photos(1, 6, 8), table({}, box=(0, 0, 6, 8)).repeat(1, 3, 1)
    rows[0, 0, :4] = torch.tensor([5.0, 7.0, 4.0, 4.0])
    rows[0, 1, :4] = torch.tensor([-3.0, 0.0, 99.0, 0.0])
    inside = rows.clone()
    inside[0, 0, :4] = torch.tensor([2.0, 4.0, 4.0, 4.0])
    inside[0, 1, :4] = torch.tensor([0.0, 0.0, 6.0, 1.0])

    def made(rows: Tensor) -> Tensor:
        out = on_device(torch.empty(1, 3, 3, 4, 4))
        views([on_device(images)], on_device(rows), None, 1, 1, True, 0, HALF, HALF, out)
        return on_cpu(out)

    assert torch.equal(made(rows), made(inside))


def test_lots(monkeypatch):
    """More views than the scratch memory holds at once."""
    rows = table({"contrast": 0.5}, {"invert": 0.0}, box=(0, 0, 5, 5))
    whole = check([photos(1, 5, 5)], rows, (4, 4), stages=2)
    monkeypatch.setitem(launches._VALUES, ("views", "scratch MB"), 0)
    assert torch.equal(check([photos(1, 5, 5)], rows, (4, 4), stages=2), whole)


def test_no_images():
    assert (
        views([photos(0, 4, 4)], torch.zeros(0, 2, 22), None, 1, 1, True, 0, HALF, HALF, torch.empty(0, 2, 3, 4, 4))
        is None
    )
