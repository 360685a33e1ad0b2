"""Data sets that an operating system installs, of files made here in their formats; splits by picture; the list."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memkern import cli
from memkern.lab.data import datasets, installed, listing, splits
from memkern.lab.presets import PRESETS
from memkern.lab.training.recipe import for_gray_images
from memkern.transforms import ViewSpec

PIXELS = {"train": np.arange(3 * 28 * 28) % 251, "t10k": np.arange(2 * 28 * 28) % 241}
LABELS = {"train": [9, 0, 3], "t10k": [1, 1]}


def idx(values: np.ndarray) -> bytes:
    """The IDX format: two zero bytes, 8 for bytes, the number of sizes, big-endian sizes, the values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.astype(np.uint8).tobytes()


def write_fashion_mnist(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True)
    for part, pixels in PIXELS.items():
        for name, values in (("images-idx3", pixels.reshape(-1, 28, 28)), ("labels-idx1", np.array(LABELS[part]))):
            content = idx(values)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_fashion_mnist(tmp_path: Path, packed: bool, below: str) -> None:
    write_fashion_mnist(tmp_path / "root" / below, packed)
    found = datasets.load("fashion-mnist", root=tmp_path / "root")
    assert (len(found), found.n_train) == (5, 3)
    assert found.labels.tolist() == [9, 0, 3, 1, 1]
    assert found.label_names[9] == "Ankle boot"
    assert found.gray
    inner = found.images[:, :, 2:-2, 2:-2]
    assert inner[:3, 1].flatten().tolist() == PIXELS["train"].tolist()
    assert inner[3:, 2].flatten().tolist() == PIXELS["t10k"].tolist()
    assert found.images.sum() == inner.sum()  # the border is black


def test_fashion_mnist_that_is_missing_or_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "FASHION_MNIST", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        datasets.load("fashion-mnist")
    write_fashion_mnist(tmp_path / "root", packed=False)
    path = tmp_path / "root" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte to hold bytes in 3 dimensions"):
        datasets.load("fashion-mnist", root=tmp_path / "root")


def write_pictures(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 100, 3)).astype(np.uint8)
    (folder / "more").mkdir(parents=True)
    Image.fromarray(noise).save(folder / "b.png")
    Image.fromarray(noise[:40, :70]).save(folder / "more" / "a.png")
    Image.new("RGB", (90, 90), (9, 200, 30)).save(folder / "flat.png")
    (folder / "link.png").symlink_to(folder / "b.png")
    (folder / "notes.txt").write_text("no picture")


def test_photos_are_cut_by_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "here")
    found = datasets.load("photos", root=tmp_path / "here")
    assert found.label_names == ("b.png", "more/a.png")  # flat ones have no patch, links are another's file
    assert found.labels.tolist() == [0] * 6 + [1] * 2
    pixels = torch.from_numpy(np.asarray(Image.open(tmp_path / "here" / "b.png")).copy())
    assert found.images[1].equal(pixels[:32, 32:64].permute(2, 0, 1))
    assert not found.gray
    monkeypatch.setattr(installed, "BACKGROUNDS", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="apt-get install mate-backgrounds"):
        datasets.load("photos")


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 2048, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    assert len(datasets.load("photos", root=tmp_path)) == 32  # 1024 x 50 px


def test_a_split_by_picture_shares_no_picture() -> None:
    pictures = torch.repeat_interleave(torch.arange(12), torch.arange(1, 13))
    split = splits.make_picture_split(pictures, splits.Sizes(shared=3, candidate=2, extra=4), seed=1)
    seen = [set(pictures[ids].tolist()) for ids in split.groups().values()]
    assert [len(each) for each in seen] == [3, 2, 2, 4]
    assert len(set.union(*seen)) == 11
    assert len(split.candidate) == len(split.independent)
    for group in ("shared", "extra"):  # whole pictures
        ids = getattr(split, group)
        assert len(ids) == torch.isin(pictures, pictures[ids].unique()).sum()
    assert len(split.candidate) in {torch.isin(pictures, torch.tensor(sorted(each))).sum().item() for each in seen[1:3]}
    again = splits.make_picture_split(pictures, splits.Sizes(shared=3, candidate=2, extra=4), seed=1)
    assert again.f.equal(split.f)
    with pytest.raises(ValueError, match="12 in all"):
        splits.make_picture_split(pictures, splits.Sizes(shared=3, candidate=3, extra=4), seed=1)


def test_gray_images_get_views_that_change_them() -> None:
    before = PRESETS["small"].recipe().views
    views = for_gray_images(before)
    assert (views.saturation, views.hue, views.gray, views.blur) == (None, None, 0.0, 0.5)
    assert (views.scale, views.brightness, views.flip) == (before.scale, before.brightness, before.flip)
    assert for_gray_images(ViewSpec(blur=0.3, blur_size=5, hue=0.1)) == ViewSpec(blur=0.3, blur_size=5)


def test_training_on_gray_images_says_what_views_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'memkern[lab]'")
    train = ["lab", "train", "--preset", "tiny", "--data", "digits"]
    assert cli.main([*train, "--out", str(tmp_path / "f.safetensors")]) == 0
    assert "images of digits have no color" in capsys.readouterr().out


def test_the_list_of_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    write_fashion_mnist(tmp_path / "fashion", packed=True)
    monkeypatch.setattr(installed, "FASHION_MNIST", tmp_path / "fashion")
    monkeypatch.setattr(installed, "BACKGROUNDS", tmp_path / "none")
    lines = {line.name: line for line in listing.listed()}
    assert list(lines) == list(datasets.NAMES) == list(listing.HOW)
    assert lines["digits"].here
    assert "as expected" in lines["digits"].remark
    assert lines["fashion-mnist"].images == 5
    assert "expected e9489d96" in lines["fashion-mnist"].remark  # those made here are not Fashion-MNIST
    assert lines["photos"] == ("photos", False, 0, listing.HOW["photos"])
    (tmp_path / "fashion" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"nonsense"))
    assert cli.main(["lab", "data"]) == 0
    printed = capsys.readouterr().out
    assert "IDX format" in printed
    assert "cifar10        not here" in printed


@pytest.mark.skipif(not installed.FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_fashion_mnist_of_debian() -> None:
    assert datasets.load("fashion-mnist").sha256 == listing.DIGESTS["fashion-mnist"]
