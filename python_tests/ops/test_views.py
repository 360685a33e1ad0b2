"""Views against torchvision v2 on the same parameters: every step, every preset, both dtypes, and the hazards."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import memkern
from memkern import ViewSpec, reference
from memkern.transforms import COLUMNS, PRESETS, STEPS, view_masks
from python_tests.helpers import testing

pytest.importorskip("torchvision", reason="the reference of views is torchvision")

COLORS = ("brightness", "contrast", "saturation", "hue")
CODE = {name: float(code) for code, name in enumerate(STEPS)}


def photos(n: int, height: int, width: int, channels: int = 3, dtype: torch.dtype = torch.uint8) -> Tensor:
    """[n, C, H, W]: smooth gradients with noise, so that neighbors are alike as in photographs, and 0 and 255 occur."""
    draw = testing.rng("photos", n, height, width, channels)
    coarse = torch.rand(n, channels, 4, 4, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.rand(n, channels, height, width, generator=draw)
    x = ((smooth - 0.5) * 2 + 0.5 + (noise - 0.5) * 0.3).clamp(0, 1)
    return (x * 255).round().to(torch.uint8) if dtype == torch.uint8 else x


def table_of(*views: dict[str, float], box: tuple[int, int, int, int]) -> Tensor:
    """[1, V, 22]: a table written by hand; each view is {step: value}, in order, "flip" and "vflip" among them."""
    table = torch.zeros(1, len(views), len(COLUMNS))
    for v, steps in enumerate(views):
        table[0, v, :4] = torch.tensor(box)
        table[0, v, 4], table[0, v, 5] = steps.get("flip", 0.0), steps.get("vflip", 0.0)
        program = [(name, value) for name, value in steps.items() if name not in ("flip", "vflip")]
        for k, (name, value) in enumerate(program):
            table[0, v, 6 + 2 * k], table[0, v, 7 + 2 * k] = CODE[name], value
    return table


def as_pixels(views: Tensor, spec: ViewSpec) -> Tensor:
    """Undoes the normalization: values in 0..1."""
    channels = views.shape[2]
    mean, std = (torch.tensor(values[:channels]).view(-1, 1, 1) for values in (spec.mean, spec.std))
    return views.double() * std + mean


def assert_same(images: Tensor, table: Tensor, spec: ViewSpec, size: tuple[int, int], backend: str) -> None:
    """uint8: within 1/255, and nearly everywhere equal; float: within 1e-5."""
    got = as_pixels(memkern.views(images, params=table, transform=spec, size=size, backend=backend), spec)

    def want(table: Tensor) -> Tensor:
        options = {"antialias": spec.antialias, "blur_size": spec.blur_size, "mean": spec.mean, "std": spec.std}
        with testing.threads(1):  # on small images torch's threads only wait for each other
            return as_pixels(reference.views([images], table, size=size, **options), spec)

    expected = want(table)
    assert torch.equal(got.isnan(), expected.isnan())
    error = (got - expected).abs().nan_to_num(0.0)
    if images.dtype == torch.uint8:
        steps = (error * 255).round()
        assert steps.max() <= 1, f"{int(steps.max())} / 255"
        # Only a blur sums in an order of its own: rounding .5 differs where the sums differ.
        allowed = 1e-4 if (table[..., 6::2] == CODE["blur"]).any() else 0.0
        assert (steps > 0).double().mean() <= allowed, f"{int((steps > 0).sum())} of {steps.numel()} differ"
        return
    if (table[..., 6::2] == CODE["solarize"]).any():
        # A pixel within rounding of the threshold may fall on either side of it.
        for shift in (-1e-3, 1e-3):
            moved = table.clone()
            moved[..., 7::2] += shift * (table[..., 6::2] == CODE["solarize"])
            moved[..., 7::2].clamp_(max=255.0)  # of hues and factors too, which are far below
            error = error.minimum((got - want(moved)).abs().nan_to_num(0.0))
    assert error.max() <= 1e-5, f"error {error.max():.3g}"


@pytest.fixture(params=[torch.uint8, torch.float32], ids=["uint8", "float32"])
def pixel(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


# ---- presets over thousands of draws --------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", [name for name in PRESETS if name != "masking"])
def test_presets_on_small_images(kernel, name, antialias, pixel):
    """32 px from 32: 48 draws of every preset, dtype and setting, on every path."""
    spec = dataclasses.replace(PRESETS[name], antialias=antialias)
    images = photos(16, 32, 32, dtype=pixel)
    table = memkern.view_params(spec, n_views=3, seed=1, index=range(16), image_size=(32, 32))
    assert_same(images, table, spec, (32, 32), kernel)


@pytest.mark.parametrize("antialias", [True, False])
def test_two_thousand_draws(antialias, pixel):
    spec = dataclasses.replace(PRESETS["dino-global-2"], scale=(0.08, 1.0), antialias=antialias, blur_size=5)
    images = photos(500, 16, 20, dtype=pixel)
    table = memkern.view_params(spec, n_views=4, seed=2, index=range(500), image_size=(16, 20))
    assert_same(images, table, spec, (12, 18), "cpu")


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("image", "size"),
    [((8, 8), (8, 8)), ((256, 256), (224, 224)), ((512, 500), (96, 97)), ((40, 300), (64, 33)), ((9, 11), (250, 200))],
)
def test_sizes(kernel, image, size, antialias, pixel):
    spec = dataclasses.replace(PRESETS["byol-2"], blur_size=min(23, size[0] // 2 * 2 - 1), antialias=antialias)
    table = memkern.view_params(spec, n_views=3, seed=3, index=range(2), image_size=image)
    assert_same(photos(2, *image, dtype=pixel), table, spec, size, kernel)


# ---- single steps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS[1:])
def test_each_step(kernel, step, pixel):
    values = {
        "hue": (-0.5, -0.2, 0.0, 0.01, 1 / 3, 0.5), "solarize": (0.0, 1.0, 128.0, 255.0), "blur": (0.1, 0.7, 2.0, 9.0),
    }.get(step, (0.0, 0.3, 1.0, 1.7, 12.0))  # fmt: skip
    spec = ViewSpec(blur_size=7)
    table = table_of(*({step: value} for value in values), box=(0, 0, 37, 29))
    assert_same(photos(1, 37, 29, dtype=pixel), table, spec, (37, 29), kernel)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_in_every_order(kernel, channels, pixel):
    values = {"brightness": 1.4, "contrast": 0.3, "saturation": 1.8, "hue": -0.3}
    programs = [{name: values[name] for name in order} for order in itertools.permutations(COLORS)]
    table = table_of(*programs, box=(1, 2, 15, 20))
    assert_same(photos(1, 17, 23, channels, dtype=pixel), table, ViewSpec(), (24, 24), kernel)


def test_hue_wraps_around(kernel, pixel):
    """Pure and nearly pure colors at the ends of the circle: red is 0 and 1."""
    hues = torch.tensor([[255, 0, 0], [255, 1, 0], [255, 0, 1], [0, 255, 0], [0, 0, 255], [7, 7, 7], [0, 0, 0]])
    images = hues.to(torch.uint8).T.reshape(1, 3, 1, 7)
    images = images if pixel == torch.uint8 else images.float() / 255
    turns = (0.5, -0.5, 1e-4, -1e-4, 1 / 6, -1 / 6, 1 / 3)
    table = table_of(*({"hue": turn} for turn in turns), box=(0, 0, 1, 7))
    assert_same(images, table, ViewSpec(), (1, 7), kernel)


def test_flips_turn_the_view(kernel, pixel):
    images = photos(1, 9, 13, dtype=pixel)
    plain, across, down, both = memkern.views(
        images, params=table_of({}, {"flip": 1}, {"vflip": 1}, {"flip": 1, "vflip": 1}, box=(0, 0, 9, 13)),
        backend=kernel,
    )[0]  # fmt: skip
    assert torch.equal(across, plain.flip(2))
    assert torch.equal(down, plain.flip(1))
    assert torch.equal(both, plain.flip(1, 2))


def test_hand_worked(path):
    """Black and white side by side: 2 pixels widened to 4 are 0, 1/4, 3/4, 1."""
    images = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    got = memkern.views(images, params=table_of({}, box=(0, 0, 1, 2)), size=(1, 4), backend=path)
    want = torch.tensor([0.0, 64.0, 191.0, 255.0]) / 255 * 2 - 1
    torch.testing.assert_close(got[0, 0, 0, 0], want, atol=1e-6, rtol=0)


# ---- hazards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (16, 22, 1, 1), (3, 0, 1, 23), (0, 5, 17, 1), (15, 19, 2, 4)])
def test_small_boxes(kernel, box, antialias, pixel):
    """One-pixel crops and extreme ratios, at the very end of the image's memory too."""
    spec = ViewSpec(antialias=antialias)
    table = table_of({}, {"flip": 1, "contrast": 1.5}, {"vflip": 1, "hue": 0.2}, box=box)
    assert_same(photos(1, 17, 23, dtype=pixel), table, spec, (19, 6), kernel)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 9), (1, 300)])
def test_one_pixel_high_images(kernel, shape, pixel):
    table = table_of({}, {"saturation": 0.2, "flip": 1}, box=(0, 0, *shape))
    for size in ((1, 1), (8, 8), (2, 33)):
        assert_same(photos(1, *shape, dtype=pixel), table, ViewSpec(), size, kernel)


@pytest.mark.parametrize("shape", [(9, 1), (2, 3), (300, 1), (3, 2)])
def test_images_on_which_torch_fails(kernel, shape, pixel):
    """torch 2.14 stops with an internal assertion on uint8 images this small; float32 ones are close."""
    images = photos(1, *shape, dtype=pixel)
    for size in ((1, 1), (8, 8), (2, 33)):
        got = memkern.views(images, params=table_of({}, box=(0, 0, *shape)), size=size, backend=kernel)
        resize = functools.partial(torch.nn.functional.interpolate, mode="bilinear", antialias=True)
        want = resize(resize(images.float(), size=(shape[0], size[1])), size=size)
        want = want / 255 if pixel == torch.uint8 else want
        assert (as_pixels(got, ViewSpec())[0] - want).abs().max() <= (1.01 / 255 if pixel == torch.uint8 else 1e-5)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255])
def test_constant_images(kernel, value, pixel):
    images = torch.full((1, 3, 20, 20), value, dtype=torch.uint8)
    images = images if pixel == torch.uint8 else images.float() / 255
    programs = [{step: 0.4 if step != "solarize" else 128.0} for step in STEPS[1:]]
    assert_same(images, table_of(*programs, box=(2, 3, 11, 7)), ViewSpec(blur_size=5), (24, 24), kernel)


@pytest.mark.parametrize("step", STEPS)
def test_nan_spreads_as_torchvisions(kernel, step):
    images = photos(1, 20, 20, dtype=torch.float32)
    images[0, 1, 9, 9] = torch.nan
    program = {step: 0.4} if step != "none" else {}
    for antialias in (True, False):
        spec = ViewSpec(blur_size=3, antialias=antialias)
        for size in ((20, 20), (31, 17)):
            assert_same(images, table_of(program, box=(0, 0, 20, 20)), spec, size, kernel)


@pytest.mark.parametrize(
    "layout", ["contiguous", "channels last", "every second", "transposed", "misaligned", "cut out", "expanded"]
)
def test_layouts_are_read_in_place(kernel, layout, pixel):
    images = photos(3, 12, 14, dtype=pixel)
    if layout == "expanded":
        images = images[:1].expand(3, -1, -1, -1)
    memory = {
        "contiguous": lambda x: x,
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "every second": lambda x: torch.stack([x, 255 - x], -1).flatten(3)[..., ::2],
        "transposed": lambda x: x.mT.contiguous().mT,
        "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
        "cut out": lambda x: torch.nn.functional.pad(x, (3, 5, 2, 1))[:, :, 2:-1, 3:-5],
        "expanded": lambda x: x,
    }[layout](images)
    assert torch.equal(memory, images)
    options = {"n_views": 3, "seed": 0, "index": range(3), "size": 20, "backend": kernel}
    got = memkern.views(memory, **options)
    testing.assert_same_bits(got, memkern.views(images.contiguous(), **options))


def test_images_of_different_sizes(kernel, pixel):
    images = [photos(1, *shape, dtype=pixel)[0] for shape in ((12, 30), (40, 9), (1, 1), (33, 33))]
    got = memkern.views(images, n_views=2, seed=5, index=[4, 3, 2, 1], size=(16, 17), backend=kernel)
    assert got.shape == (4, 2, 3, 16, 17)
    for i, image in enumerate(images):
        alone = memkern.views(image[None], n_views=2, seed=5, index=[4 - i], size=(16, 17), backend=kernel)
        testing.assert_same_bits(got[i : i + 1], alone)


# ---- the result -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (7, 5), (1, 1)])
def test_dtypes_and_memory_orders(kernel, dtype, channels, size):
    images = photos(3, 32, 32, channels)
    options = {"n_views": 2, "seed": 0, "index": range(3), "size": size, "backend": kernel}
    wide = memkern.views(images, **options)
    for last in (False, True):
        got = memkern.views(images, **options, dtype=dtype, channels_last=last)
        testing.assert_same_bits(got, wide.to(dtype))
        batch = got.flatten(0, 1)
        assert batch.data_ptr() == got.data_ptr()
        order = torch.channels_last if last else torch.contiguous_format
        assert batch.is_contiguous(memory_format=order)


def test_same_bits_for_any_batch_order_and_threads(kernel, pixel):
    images, index = photos(23, 32, 32, dtype=pixel), torch.randperm(1000, generator=testing.rng("index"))[:23]
    options = {"n_views": 3, "transform": "byol-2", "seed": 7, "size": 40, "backend": kernel}
    with testing.threads(1):
        whole = memkern.views(images, index=index, **options)
    with testing.threads(2):
        testing.assert_same_bits(memkern.views(images, index=index, **options), whole)
    order = torch.randperm(23, generator=testing.rng("order"))
    parts = [memkern.views(images[part], index=index[part], **options) for part in order.split(5)]
    testing.assert_same_bits(torch.cat(parts), whole[order])
    later = memkern.views(images, index=index, **{**options, "n_views": 1}, first_view=2)
    testing.assert_same_bits(later, whole[:, 2:])


def test_same_bits_on_every_instruction_set(pixel):
    options = {"n_views": 4, "transform": "byol-1", "seed": 7, "index": range(6), "size": 33}
    images = photos(6, 40, 36, dtype=pixel)
    bits = []
    for isa in testing.isas():
        with testing.forced_isa(isa):
            bits.append(memkern.views(images, **options))
    for other in bits[1:]:
        testing.assert_same_bits(other, bits[0])


def test_the_clean_view_comes_first(path):
    images = photos(4, 24, 32)
    options = {"n_views": 2, "seed": 0, "index": range(4), "size": 24, "backend": path}
    both = memkern.views(images, clean=True, **options)
    testing.assert_same_bits(both[:, 1:], memkern.views(images, **options))
    want = (images[:, :, :, 4:28].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(both[:, 0], want, atol=1e-6, rtol=0)
    alone = memkern.views(images, clean=True, **{**options, "n_views": 0})
    testing.assert_same_bits(alone, both[:, :1])


def test_masked_views(path):
    images = photos(3, 32, 32)
    options = {"n_views": 2, "transform": "masking", "seed": 9, "index": [5, 6, 7]}
    for last in (False, True):
        got = memkern.views(images, clean=True, channels_last=last, backend=path, **options)
        hidden = view_masks("masking", n_views=2, seed=9, index=[5, 6, 7], size=32)
        assert (hidden.sum((2, 3)) == 48).all()  # of 64 patches
        spread = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, None]
        plain = got[:, :1]
        assert torch.equal(got[:, 1:], torch.where(spread, 0.0, plain))
        table = memkern.view_params("masking", n_views=2, seed=9, index=[5, 6, 7], image_size=(32, 32))
        given = memkern.views(images, params=table, transform="masking", masks=hidden, backend=path)
        testing.assert_same_bits(given, got[:, 1:].contiguous())


def test_the_image_alone_has_no_mask():
    image = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    options = {"transform": "masking", "seed": 9, "index": [5, 6], "clean": True}
    alone = memkern.views(image, n_views=0, **options)
    assert torch.equal(alone, memkern.views(image, n_views=2, **options)[:, :1])


def test_no_images(path):
    empty = torch.empty(0, 3, 8, 8, dtype=torch.uint8)
    assert memkern.views(empty, n_views=2, seed=0, index=[], backend=path).shape == (0, 2, 3, 8, 8)


def test_numpy_and_other_floats(path):
    images = photos(2, 16, 16, dtype=torch.float32)
    options = {"n_views": 2, "seed": 0, "index": np.array([3, 1]), "backend": path}
    want = memkern.views(images, **options)
    got = memkern.views(images.numpy(), **options)
    assert isinstance(got, np.ndarray)
    testing.assert_same_bits(torch.from_numpy(got), want)
    testing.assert_same_bits(memkern.views(images.double(), **options), want)
    for dtype in (torch.bfloat16, torch.float16):
        narrow = images.to(dtype)
        testing.assert_same_bits(memkern.views(narrow, **options), memkern.views(narrow.float(), **options))


# ---- torch ----------------------------------------------------------------------------------------------------------


def arguments(backend: str = "auto", channels_last: bool = False) -> tuple:
    table = memkern.view_params("simclr", n_views=2, seed=0, index=range(3), image_size=(9, 8))
    images = [photos(2, 9, 8), photos(1, 9, 8)]
    half = [0.5, 0.5, 0.5]
    return images, table, None, 6, 7, 1, 2, True, 0, half, half, torch.float32, channels_last, backend


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(path, channels_last):
    torch.library.opcheck(torch.ops.memkern.views.default, arguments(path, channels_last))


def test_compiles_whole_with_a_table():
    images, table = photos(3, 9, 8), arguments()[1]

    def step(images: Tensor, table: Tensor) -> Tensor:
        return memkern.views(images, params=table, size=(6, 7)).mean((2, 3, 4))

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    testing.assert_same_bits(compiled(images, table), step(images, table))
