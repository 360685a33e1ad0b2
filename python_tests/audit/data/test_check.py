"""A look at every image: what cannot be read, and copies."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import IMAGES, picture_folder
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memkern.audit.data.check import NEAR, SAMPLE, ImageCheck, check_images, copies, difference, rows_to_look_at
from memkern.audit.data.open import open_source
from memkern.audit.data.source import from_arrays


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_images_that_cannot_be_read(folder: Path) -> None:
    whole = (folder / "a" / "deep" / "0.png").read_bytes()
    (folder / "a" / "deep" / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "deep" / "1.png").write_text("not an image")
    source = open_source(str(folder))
    looks = check_images(source, range(6), duplicates=True)
    broken = {source.ids[row]: each.error for row, each in enumerate(looks) if each.error}
    assert list(broken) == ["a/deep/0.png", "b/deep/1.png"]
    assert "truncated" in broken["a/deep/0.png"] or "broken" in broken["a/deep/0.png"]
    assert broken["b/deep/1.png"].startswith("not an image of a known format (AVIF, BMP")
    left = source.without({0, 2})
    assert left.index == (1, 3, 4, 5)
    assert torch.equal(left.image(0), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    floats = from_arrays(np.full((2, 3, 4, 4), 255.0, np.float32))
    error = check_images(floats, [0], duplicates=False)[0].error
    assert error.startswith(
        "float values from 255 to 255, not in [0, 1]: divide them, or state their range, ?range=0,25"
    )
    floats = from_arrays(np.full((2, 3, 4, 4), np.nan, np.float32))
    assert check_images(floats, [0], duplicates=False)[0].error == "float values that are not finite"


def textured(seed: int) -> Tensor:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return torch.from_numpy(np.array(coarse.resize((48, 48), Image.Resampling.BICUBIC)))


def test_copies() -> None:
    images = [textured(seed) for seed in range(12)]
    brighter = (images[3].float() * 0.9 + 20).to(torch.uint8)
    flat = torch.full((48, 48, 3), 9, dtype=torch.uint8)
    images += [images[0].clone(), brighter, flat, flat + 1, images[0].clone()]
    source = from_arrays(torch.stack(images))
    looks = check_images(source, range(len(source)), duplicates=True)
    wanted = [("0", "12", "exact"), ("0", "16", "exact"), ("3", "13", "near")]
    assert copies(source, looks) == wanted, "flat images have no perceptual hash"
    assert copies(source, check_images(source, range(len(source)), duplicates=False)) == []


def test_near_copies_equal_a_search_over_all_pairs() -> None:
    random = np.random.default_rng(0)
    hashes = [int(value) for value in random.integers(0, 2**63, 40, dtype=np.int64)]
    for row in range(20):
        changed = hashes[row]
        for bit in random.choice(63, row % 7, replace=False):
            changed ^= 1 << int(bit)
        hashes.append(changed)
    thumbnails = random.integers(0, 256, (40, 256), dtype=np.uint8)
    source = from_arrays(np.zeros((60, 4, 4, 3), np.uint8))
    checks = [ImageCheck("", near=value, thumbnail=thumbnails[row % 40].tobytes()) for row, value in enumerate(hashes)]
    found = copies(source, checks)
    slow = [
        (str(first), str(row), "near")
        for row in range(60)
        for first in [next((b for b in range(row) if bin(hashes[b] ^ hashes[row]).count("1") <= NEAR), None)]
        if first is not None
    ]
    assert found == slow
    assert len(found) == sum(row % 7 <= NEAR for row in range(20))


def digits(count: int) -> NDArray[np.uint8]:
    """Simple gray images: strokes of one pen at few places, `[N, 1, 28, 28]`."""
    load_digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits
    small = (load_digits().images[:count] * 15.9).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((28, 28), Image.Resampling.BICUBIC)) for each in small])[
        :, None
    ]


@pytest.mark.field("data", "near copies among simple images")
def test_simple_images_are_no_copies_of_each_other() -> None:
    images = digits(1000)
    darker = (images[::100] * 0.8 + 10).astype(np.uint8)
    source = from_arrays(np.concatenate([images, darker, images[5:6]]))
    looks = check_images(source, range(len(source)), duplicates=True)
    near_hashes = [
        copy for _, copy, kind in copies(source, [replace(each, exact="") for each in looks]) if kind == "near"
    ]
    wanted = [("5", "1010", "exact"), *((str(100 * k), str(1000 + k), "near") for k in range(10))]
    assert copies(source, looks) == wanted
    assert near_hashes == [str(1000 + k) for k in range(11)]
    suspects = sum(
        bin((a.near or 0) ^ (b.near or 0)).count("1") <= NEAR for k, a in enumerate(looks[:1000]) for b in looks[:k]
    )
    assert suspects > 10, "by their hashes alone more of them would be"


def test_difference_of_thumbnails() -> None:
    a = np.random.default_rng(0).integers(0, 256, 256).astype(np.uint8)
    assert difference(a.tobytes(), (a // 2 + 20).astype(np.uint8).tobytes()) < 1e-3
    assert difference(a.tobytes(), (255 - a).astype(np.uint8).tobytes()) == 1, "a negative is no copy"
    b = np.random.default_rng(1).integers(0, 256, 256).astype(np.uint8)
    assert difference(a.tobytes(), b.tobytes()) == pytest.approx(1 - max(0, np.corrcoef(a, b)[0, 1]) ** 2, abs=1e-12)


def test_near_copies_of_photographs_survive_compression() -> None:
    images = [textured(seed).numpy() for seed in range(20)]
    for row in range(5):
        buffer = io.BytesIO()
        Image.fromarray(images[row]).save(buffer, "JPEG", quality=60)
        images.append(np.asarray(Image.open(buffer)))
    source = from_arrays(np.stack(images))
    found = copies(source, check_images(source, range(25), duplicates=True))
    assert found == [(str(row), str(20 + row), "near") for row in range(5)]


def test_rows_to_look_at() -> None:
    assert list(rows_to_look_at(5, "full")) == list(rows_to_look_at(5, "sample")) == [0, 1, 2, 3, 4]
    assert list(rows_to_look_at(5, "none")) == [0]
    assert list(rows_to_look_at(0, "none")) == []
    rows = rows_to_look_at(10**9, "sample")
    assert len(rows) == SAMPLE
    assert (rows[0], rows[-1] - rows[-2], len(set(rows))) == (0, 10**6, SAMPLE)
