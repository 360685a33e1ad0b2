"""Data sets of other libraries as images of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import IMAGES, LABELS, message, picture_folder, same_images
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from memkern.audit import from_dataset
from memkern.audit.data.open import open_source

TENSORS = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


class Items(Dataset[object]):
    """A data set whose items are made by a function."""

    def __init__(self, make: object, **attributes: object) -> None:
        self.make = make
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> object:
        return self.make(index)


@pytest.mark.parametrize(
    "make",
    [
        lambda row: Image.fromarray(IMAGES[row]),
        lambda row: IMAGES[row],
        lambda row: TENSORS[row],
        lambda row: (TENSORS[row], 3),
        lambda row: [IMAGES[row]],
        lambda row: {"label": 1, "image": Image.fromarray(IMAGES[row])},
        lambda row: {"pixel_values": TENSORS[row]},
        lambda row: IMAGES[row].astype(np.uint16) * 256,
    ],
)
@pytest.mark.field("data", "data sets of torch, with pictures, tensors, arrays, tuples or dicts as items")
def test_items_of_every_kind(make: object) -> None:
    source = from_dataset(Items(make))
    assert same_images(source)
    assert source.ids == tuple("012345")
    assert source.labels is None
    assert source.name == "Items"


def test_labels_are_the_data_sets_own() -> None:
    whole = Items(lambda row: TENSORS[row], targets=[0, 1, 2, 0, 1, -1], classes=["a", "b", "c"])
    assert from_dataset(whole).labels == (0, 1, 2, 0, 1, -1)
    assert from_dataset(whole).classes == ("a", "b", "c")
    part = from_dataset(Subset(whole, [5, 1, 2]))
    assert (part.labels, part.classes) == ((-1, 1, 2), ("a", "b", "c"))
    assert from_dataset(whole, labels=None).labels is None
    assert from_dataset(whole, labels=list("xyxyxy")).classes == ("x", "y")
    assert "one-hot" in message(lambda: from_dataset(whole, labels=np.eye(6)))
    assert from_dataset(TensorDataset(TENSORS), ids=[f"n{row}" for row in range(6)]).ids[5] == "n5"


@pytest.mark.field("data", "data sets of Hugging Face `datasets`, by their object")
def test_data_sets_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"image": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()}
    data = datasets.Dataset.from_dict(rows, features=features)
    source = from_dataset(data)
    assert same_images(source)
    assert (source.labels, source.classes) == (tuple(LABELS), ("a", "b", "c"))
    assert "of several splits, name one" in message(lambda: from_dataset(datasets.DatasetDict({"train": data})))
    assert "that only streams" in message(lambda: from_dataset(data.to_iterable_dataset()))


class Stream(IterableDataset[object]):
    """A data set without numbers."""

    def __iter__(self) -> Iterator[object]:
        return iter(())


def test_mistakes_are_found_at_once() -> None:
    assert "that only streams" in message(lambda: from_dataset(Stream()))
    noise = Items(lambda row: torch.rand(3, 8, 8))
    assert message(lambda: from_dataset(noise)).startswith(
        "Expected Items to give the same image every time, got two different ones for item 0"
    )
    assert message(lambda: from_dataset(Items(lambda row: {"picture": 1}))).endswith(
        "a mapping with picture: name the image with image_key"
    )
    assert same_images(from_dataset(Items(lambda row: {"picture": TENSORS[row]}), image_key="picture"))
    assert same_images(from_dataset(Items(lambda row: (7, TENSORS[row])), image_key=1))
    assert "no image, but int" in message(lambda: from_dataset(Items(lambda row: (7, TENSORS[row]))))
    assert "division by zero" in message(lambda: from_dataset(Items(lambda row: 1 / row)))
    assert "got 2" in message(lambda: from_dataset(Items(lambda row: TENSORS[row]), ids=["a", "b"]))


def test_a_function_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data.py"
    path.write_text(
        "import torch\nclass Data(torch.utils.data.Dataset):\n    targets = [0, 1, 0]\n"
        "    def __init__(self, size): self.size = size\n    def __len__(self): return 3\n"
        "    def __getitem__(self, row): return torch.full((3, self.size, self.size), row, dtype=torch.uint8), 5\n"
        "def stream(): return iter([])\n"
    )
    source = open_source(f"py:{path}:Data?size=4")
    assert (source.labels, source.image(2).shape, int(source.image(2).max())) == ((0, 1, 0), (3, 4, 4), 2)
    assert open_source(f"py:{path}:Data?size=4", labels=False).labels is None
    assert "define 'Dada'; it defines Data, stream" in message(open_source, f"py:{path}:Dada")
    assert "that only streams" in message(open_source, f"py:{path}:stream")
    changed = path.read_text().replace("[0, 1, 0]", "[1, 1, 0]")
    path.write_text(changed)
    assert open_source(f"py:{path}:Data?size=4").digest != source.digest


@pytest.mark.field("data", "STL-10's images without labels")
def test_torchvision_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    base = tmp_path / "stl10_binary"
    base.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 96, 96), dtype=np.uint8)
    images.tofile(base / "unlabeled_X.bin")
    (base / "class_names.txt").write_text("\n".join("abcdefghij"))
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    source = open_source(f"torchvision:STL10?root={tmp_path}&split=unlabeled")
    assert source.labels is None
    assert torch.equal(source.image(3), torch.from_numpy(images[3]).transpose(1, 2))
    folder = picture_folder(tmp_path / "pictures")
    assert open_source(f"torchvision:ImageFolder?root={folder}&labels=none").labels is None
