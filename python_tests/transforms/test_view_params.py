"""What is drawn for views: the generator, distributions beside torchvision's, presets, conversion, errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import memkern
from memkern import ViewSpec
from memkern.transforms import COLUMNS, PRESETS, STEPS, philox, view_masks

stats = pytest.importorskip("scipy.stats")
COLUMN = {name: i for i, name in enumerate(COLUMNS)}


def draw(spec, n=2000, views=2, size=(32, 32), **options):
    table = memkern.view_params(spec, n_views=views, seed=3, index=range(n), image_size=size, **options)
    return table.flatten(0, 1).numpy()


# ---- the generator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "seed", "want"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)  # fmt: skip
def test_philox_gives_the_published_words(counter, seed, want):
    got = philox.words(tuple(np.uint64(word) for word in counter), seed)
    assert tuple(int(word) for word in got) == want


def test_a_row_depends_on_seed_index_and_view_alone():
    options = {"n_views": 3, "seed": 11, "image_size": (40, 30)}
    index = [5, 2**40 + 1, 5 + 2**32, 0]
    whole = memkern.view_params("byol-2", index=index, **options)
    for i, one in enumerate(index):
        assert torch.equal(memkern.view_params("byol-2", index=[one], **options)[0], whole[i])
    later = memkern.view_params("byol-2", index=index, **{**options, "n_views": 1}, first_view=2)
    assert torch.equal(later, whole[:, 2:])
    assert len({tuple(row) for row in whole.flatten(0, 1).tolist()}) == 12
    assert not torch.equal(memkern.view_params("byol-2", index=index, **{**options, "seed": 12}), whole)
    mixed = memkern.view_params("byol-2", index=[5, 0], n_views=3, seed=11, image_size=[[40, 30], [8, 9]])
    assert torch.equal(mixed[0], whole[0])


def test_a_number_does_not_depend_on_other_parameters():
    """Leaving a stage out changes no other number of the view."""
    full, less = PRESETS["byol-2"], dataclasses.replace(PRESETS["byol-2"], gray=0.0, hue=None)
    a, b = draw(full), draw(less)
    assert (a[:, :6] == b[:, :6]).all()
    for name in ("brightness", "contrast", "saturation", "solarize", "blur"):
        assert (values_of(a, name) == values_of(b, name)).all()


def values_of(rows, step):
    """The value of a step in each view, NaN where it does not happen."""
    codes, values = rows[:, 6::2], rows[:, 7::2]
    hits = codes == STEPS.index(step)
    assert hits.sum(1).max() <= 1
    out = np.where(hits.any(1), (values * hits).sum(1), -1.0)
    return out


# ---- distributions beside torchvision's -----------------------------------------------------------------------------
# Draws are seeded, so each p-value is one fixed number; a wrong distribution of this many draws gives far below 1e-6.


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)), ((20, 64), (0.2, 1.0), (3 / 4, 4 / 3)), ((64, 9), (0.5, 1.0), (0.9, 1.1)),
     ((224, 224), (0.4, 1.0), (0.5, 2.0))],
)  # fmt: skip
def test_crop_boxes(size, scale, ratio):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(8, scale=scale, ratio=ratio)
    image = [torch.empty(3, *size)]
    theirs = [crop.make_params(image) for _ in range(3000)]
    mine = draw(ViewSpec(scale=scale, ratio=ratio), n=3000, views=1, size=size)
    for name in ("top", "left", "height", "width"):
        a, b = mine[:, COLUMN[name]], np.array([params[name] for params in theirs])
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name
    a = mine[:, COLUMN["height"]] * mine[:, COLUMN["width"]]
    b = np.array([params["height"] * params["width"] for params in theirs])
    assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_fallback_is_torchvisions():
    """No box of this ratio ever fits: the middle of the image."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    for size in ((10, 100), (100, 10), (1, 7), (7, 1), (20, 25)):
        crop = v2.RandomResizedCrop(8, scale=(0.999, 1.0), ratio=(0.99, 1.01))
        want = crop.make_params([torch.empty(3, *size)])
        got = draw(ViewSpec(scale=(0.999, 1.0), ratio=(0.99, 1.01)), n=1, views=1, size=size)[0, :4]
        assert got.tolist() == [want[name] for name in ("top", "left", "height", "width")], size


def test_color_factors():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    torch.manual_seed(0)
    jitter = v2.ColorJitter(0.8, 0.4, (0.1, 3.0), 0.2)
    theirs = [jitter.make_params([]) for _ in range(3000)]
    mine = draw(ViewSpec(jitter=1.0, brightness=0.8, contrast=0.4, saturation=(0.1, 3.0), hue=0.2), n=3000, views=1)
    for name in ("brightness", "contrast", "saturation", "hue"):
        a, b = values_of(mine, name), np.array([params[f"{name}_factor"] for params in theirs])
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name
    orders = np.unique(mine[:, 6:14:2], axis=0, return_counts=True)
    assert len(orders[0]) == 24
    assert stats.chisquare(orders[1]).pvalue > 1e-3


def test_probabilities():
    spec = ViewSpec(
        flip=0.5, vflip=0.1, jitter=0.8, brightness=0.5, gray=0.2, invert=0.3, solarize=0.05, blur=0.9, sigma=(0.5, 1.5)
    )
    rows = draw(spec, n=5000)
    happens = {name: values_of(rows, name) >= 0 for name in ("brightness", "gray", "invert", "solarize", "blur")}
    happens |= {"flip": rows[:, 4] == 1, "vflip": rows[:, 5] == 1}
    wanted = {"brightness": 0.8, **{name: getattr(spec, name) for name in happens if name != "brightness"}}
    for name, hits in happens.items():
        assert stats.binomtest(int(hits.sum()), len(rows), wanted[name]).pvalue > 1e-3, name
    for a, b in (("flip", "vflip"), ("gray", "blur"), ("brightness", "gray"), ("invert", "solarize")):
        both = np.array([[(x & y).sum() for y in (happens[b], ~happens[b])] for x in (happens[a], ~happens[a])])
        assert stats.chi2_contingency(both).pvalue > 1e-3, (a, b)
    sigma = values_of(rows, "blur")
    assert stats.kstest(sigma[sigma >= 0], "uniform", args=(0.5, 1.0)).pvalue > 1e-3


def test_probability_one_and_zero_are_certain():
    rows = draw(ViewSpec(flip=1.0, vflip=0.0, gray=1.0))
    assert (rows[:, 4] == 1).all()
    assert (rows[:, 5] == 0).all()
    assert (values_of(rows, "gray") == 0).all()


def test_masks_hide_their_share_evenly():
    hidden = view_masks(ViewSpec(mask=0.6, patch=4), n_views=4, seed=1, index=range(1000), size=(16, 24))
    assert hidden.shape == (1000, 4, 4, 6)
    assert (hidden.sum((2, 3)) == 14).all()  # 0.6 of 24, rounded
    counts = hidden.sum((0, 1)).flatten().numpy()
    assert stats.chisquare(counts).pvalue > 1e-3


# ---- presets and conversion -----------------------------------------------------------------------------------------


def test_presets_of_the_papers():
    """The sets of arXiv 2409.19069, appendix B, and of the released scripts."""
    wanted = {
        "weak": (0.4, (0.1, 1.9), (-0.5, 0.5), 0.5, 0.0, 0.1),
        "normal": (0.8, (0.2, 1.8), (-0.2, 0.2), 1.0, 0.0, 0.2),
        "strong": (0.9, (0.2, 1.8), (-0.2, 0.2), 1.0, 1.0, 0.5),
        "independent": (0.0, None, None, 0.0, 1.0, 0.0),
        "script-scores": (0.8, (0.2, 1.8), (-0.2, 0.2), 0.5, 0.0, 0.2),
        "script-unitmem": (0.9, (0.1, 1.9), (-0.1, 0.1), 0.25, 0.0, 0.1),
    }
    for name, (jitter, factors, hue, flip, vflip, gray) in wanted.items():
        spec = PRESETS[name]
        assert (spec.jitter, spec.flip, spec.vflip, spec.gray) == (jitter, flip, vflip, gray), name
        assert spec.hue == hue
        assert spec.brightness == spec.contrast == spec.saturation
        assert spec.brightness == (None if factors is None else pytest.approx(factors))
    assert (PRESETS["independent"].blur, PRESETS["independent"].invert) == (0.8, 0.2)
    assert (PRESETS["masking"].mask, PRESETS["masking"].scale) == (0.75, None)
    assert PRESETS["dino-local"].size == (96, 96)


def test_from_torchvision_equals_the_preset():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    compose = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=0.1),
            v2.RandomSolarize(128, p=0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    spec = ViewSpec.from_torchvision(compose)
    assert dataclasses.replace(spec, order=PRESETS["byol-2"].order) == PRESETS["byol-2"]
    assert spec.order == ("jitter", "gray", "blur", "solarize")


def test_from_torchvision_keeps_options():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    spec = ViewSpec.from_torchvision(
        v2.Compose(
            [
                v2.RandomApply([v2.RandomHorizontalFlip(0.5)], p=0.5),
                v2.RandomVerticalFlip(0.3),
                v2.RandomResizedCrop((20, 30), scale=(0.3, 0.9), ratio=(0.5, 1.5), antialias=False),
                v2.GaussianBlur(5, (0.2, 0.4)),
                v2.RandomInvert(0.7),
                v2.ColorJitter(brightness=(0.5, 3.0), hue=0.25),
                v2.RandomSolarize(0.5, p=0.1),
            ]
        )
    )
    assert (spec.size, spec.scale, spec.ratio, spec.antialias) == ((20, 30), (0.3, 0.9), (0.5, 1.5), False)
    assert (spec.flip, spec.vflip, spec.blur, spec.blur_size, spec.sigma) == (0.25, 0.3, 1.0, 5, (0.2, 0.4))
    assert (spec.jitter, spec.brightness, spec.contrast, spec.hue) == (1.0, (0.5, 3.0), None, (-0.25, 0.25))
    assert (spec.invert, spec.solarize, spec.threshold) == (0.7, 0.1, 127.5)
    assert spec.order == ("blur", "invert", "jitter", "solarize")
    resized = ViewSpec.from_torchvision(v2.Resize((8, 9)))
    assert (resized.scale, resized.size, resized.clean) == (None, (8, 9), "resize")


@pytest.mark.parametrize(
    ("transforms", "error", "message"),
    [
        (lambda v2: [v2.RandomPosterize(3)], TypeError, "RandomPosterize"),
        (lambda v2: [v2.RandomRotation(10)], TypeError, "RandomRotation"),
        (lambda v2: [v2.RandomResizedCrop(8, interpolation=3)], TypeError, "not bilinear"),
        (lambda v2: [v2.RandomGrayscale(), v2.RandomResizedCrop(8)], ValueError, "RandomResizedCrop"),
        (lambda v2: [v2.Normalize((0.5,), (0.5,)), v2.RandomInvert()], ValueError, "after Normalize"),
        (lambda v2: [v2.RandomApply([v2.RandomInvert(), v2.RandomGrayscale()])], TypeError, "several"),
        (lambda v2: [v2.GaussianBlur((3, 5))], TypeError, "square"),
        (lambda v2: [v2.RandomInvert(), v2.RandomInvert()], ValueError, "twice"),
        (lambda v2: [v2.Resize(8)], TypeError, "smaller edge"),
        (lambda v2: [len], TypeError, "builtin"),
    ],
)
def test_from_torchvision_refuses_by_name(transforms, error, message):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    with pytest.raises(error, match=message):
        ViewSpec.from_torchvision(v2.Compose(transforms(v2)))


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"flip": 1.5}, ValueError, r"`flip` to be in \[0, 1\], got 1.5"),
        ({"flip": "x"}, TypeError, "`flip` to be a number, got str"),
        ({"scale": (0.5, 0.1)}, ValueError, "`scale`"),
        ({"scale": (0.0, 0.1)}, ValueError, "`scale`"),
        ({"ratio": 1.0}, TypeError, "`ratio` to be two numbers"),
        ({"hue": 0.6}, ValueError, "`hue`"),
        ({"brightness": -1}, ValueError, "`brightness`"),
        ({"blur_size": 4}, ValueError, "`blur_size` to be odd, got 4"),
        ({"order": ("gray", "gray")}, ValueError, "at most once"),
        ({"order": ("crop",)}, ValueError, "`order` to be one of"),
        ({"std": (0.5, 0.0, 0.5)}, ValueError, "`std`"),
        ({"mean": (0.5, 0.5)}, ValueError, "`mean`"),
        ({"size": 0}, ValueError, "`size`"),
        ({"size": 2.5}, TypeError, "`size`"),
        ({"clean": "crop"}, ValueError, "`clean`"),
    ],
)
def test_spec_errors(fields, error, message):
    with pytest.raises(error, match=message):
        ViewSpec(**fields)


IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
TABLE = memkern.view_params(ViewSpec(), n_views=1, seed=0, index=[0, 1], image_size=(8, 8))
OUTSIDE, WRONG_STEP = TABLE.clone(), TABLE.clone()
OUTSIDE[1, 0, :4] = torch.tensor([1.0, 0.0, 8.0, 8.0])
WRONG_STEP[0, 0, 6] = 9.0
WIDE_HUE, NO_BLUR = TABLE.clone(), TABLE.clone()
WIDE_HUE[1, 0, 8:10] = torch.tensor([4.0, 0.6])
NO_BLUR[0, 0, 6] = 8.0


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (IMAGES, {"n_views": 1, "seed": 0}, TypeError, "Expected `index` to draw views"),
        (IMAGES, {"params": TABLE, "seed": 0}, TypeError, "Expected `seed` to be left out"),
        (IMAGES, {"params": OUTSIDE}, ValueError, r"`params` \[1, 0\] .* inside its image of \[8, 8\]"),
        (IMAGES, {"params": WRONG_STEP}, ValueError, r"codes in \[0, 9\)"),
        (IMAGES, {"params": WIDE_HUE}, ValueError, r"step 4 in \[-0.5, 0.5\], got 0.6"),
        (IMAGES, {"params": NO_BLUR}, ValueError, "step 8 in"),
        (IMAGES, {"params": TABLE[:1]}, ValueError, r"`params` to have shape \[2, V, 22\]"),
        (IMAGES, {"params": TABLE.double()}, TypeError, "`params` to be float32"),
        (IMAGES, {"params": TABLE, "transform": "masking"}, TypeError, "Expected `masks`"),
        (IMAGES, {"transform": "nothing"}, ValueError, "`transform` to be one of"),
        (IMAGES, {"transform": 3}, TypeError, "preset's name or a ViewSpec"),
        (IMAGES, {"index": [1]}, ValueError, r"`index` to have shape \[2\]"),
        (IMAGES, {"index": [1.0, 2.0]}, TypeError, "whole numbers"),
        (IMAGES, {"index": [1, -2]}, ValueError, "at least 0"),
        (IMAGES, {"seed": -1}, ValueError, "`seed`"),
        (IMAGES, {"seed": 1.0}, TypeError, "`seed`"),
        (IMAGES, {"n_views": 0}, ValueError, "`n_views`"),
        (IMAGES, {"first_view": -1}, ValueError, "`first_view`"),
        (IMAGES, {"dtype": torch.float64}, TypeError, "`dtype`"),
        (IMAGES, {"transform": "byol-1", "size": 8}, ValueError, "23 taps"),
        (IMAGES, {"transform": "masking", "size": 9}, ValueError, "patch of 4"),
        (IMAGES.int(), {}, TypeError, "uint8"),
        (IMAGES[0], {}, ValueError, r"\[N, C, H, W\], got \[3, 8, 8\]"),
        (IMAGES[:, :2], {}, ValueError, "1 or 3 channels"),
        ([], {}, ValueError, "at least one image"),
        ([IMAGES], {}, ValueError, r"`images\[0\]` to have shape \[C, H, W\]"),
        ([IMAGES[0], IMAGES[0, :, :4]], {}, ValueError, "`size` for images of different sizes"),
        ([IMAGES[0], IMAGES[0].float()], {"size": 4}, TypeError, "one dtype"),
        (IMAGES, {"backend": "fast"}, ValueError, "`backend`"),
    ],
)
def test_view_errors(images, options, error, message):
    drawn = {"n_views": 1, "seed": 0, "index": [0, 1]} if not {"params", "n_views"} & set(options) else {}
    if options == {"n_views": 0}:
        drawn = {"seed": 0, "index": [0, 1]}
    with pytest.raises(error, match=message):
        memkern.views(images, **{**drawn, **options})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("std", 1e-39), ("std", 0), ("std", float("nan")), ("std", 1e39), ("std", (1.0, 1e-7, 1.0)), ("mean", 1e308),
        ("mean", float("-inf")), ("mean", 10**400), ("contrast", 1e39), ("brightness", (0.0, float("inf"))),
        ("saturation", float("nan")), ("sigma", (1e-39, 1.0)), ("sigma", (1.0, 1e39)), ("ratio", (1e-300, 1.0)),
        ("ratio", (1.0, float("inf"))), ("threshold", float("nan")), ("scale", (float("nan"), 1.0)), ("hue", 1e39),
    ],
)  # fmt: skip
def test_numbers_of_which_no_view_can_be_made_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"Expected `{field}` to be "):
        memkern.ViewSpec(**{field: value})


@pytest.mark.parametrize("most", [1e6, 1e-6])
def test_the_outermost_numbers_give_finite_views(most):
    spec = memkern.ViewSpec(
        size=8, jitter=1.0, brightness=(1e6, 1e6), contrast=(1e6, 1e6), saturation=(1e6, 1e6), blur=1.0, blur_size=3,
        sigma=(most, most), ratio=(1e-6, 1e6), mean=(most,), std=(1e-6,), scale=(1e-300, 1.0),
    )  # fmt: skip
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for each in (images, (images * 255).to(torch.uint8)):
        found = memkern.views(each, n_views=4, transform=spec, seed=0, index=range(4))
        assert torch.isfinite(found).all()
