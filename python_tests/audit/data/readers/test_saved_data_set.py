"""Images of a data set that Hugging Face `datasets` saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import IMAGES, LABELS, message, png, same_images

from memkern.audit.data.open import open_source


def test_hugging_face_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"picture": [{"bytes": png(image), "path": None} for image in IMAGES], "kind": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    source = open_source(str(tmp_path / "set"))
    assert same_images(source)
    assert source.labels == tuple(LABELS)
    assert source.classes == ("a", "b", "c")


@pytest.mark.field("data", "a `DatasetDict` that `datasets` saved")
def test_splits_and_orientations(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    from PIL import Image

    wide = Image.fromarray(IMAGES[0][:4])
    exif = wide.getexif()
    exif[0x0112] = 6
    wide.save(tmp_path / "turned.jpg", exif=exif)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})

    def part(rows: list[int]) -> object:
        images = [{"bytes": png(IMAGES[row]), "path": None} for row in rows] + [str(tmp_path / "turned.jpg")]
        return datasets.Dataset.from_dict({"image": images, "label": [*LABELS[rows].tolist(), -1]}, features=features)

    datasets.DatasetDict({"train": part([0, 1, 2]), "test": part([3])}).save_to_disk(tmp_path / "set")
    source = open_source(str(tmp_path / "set"))
    assert source.ids == ("train/0", "train/1", "train/2", "train/3", "test/0", "test/1")
    assert (source.labels, source.classes) == ((0, 1, 2, -1, 0, -1), ("a", "b", "c"))
    assert torch.equal(source.image(4), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    own = np.asarray(datasets.load_from_disk(str(tmp_path / "set"))["train"][3]["image"])
    assert torch.equal(source.image(3), torch.from_numpy(own.copy()).permute(2, 0, 1)), "upright, as datasets gives it"
    assert open_source(f"{tmp_path / 'set'}?split=test").ids == ("0", "1")
    assert open_source(str(tmp_path / "set" / "test")).ids == ("0", "1")
    assert message(open_source, f"{tmp_path / 'set'}?split=no").endswith(", got train, test")


@pytest.mark.field("data", "splits with other class names or columns: refused; parts without labels")
def test_splits_that_are_not_of_one_form(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    images = [{"bytes": png(image), "path": None} for image in IMAGES[:2]]

    def part(key: str, names: list[str] | None) -> object:
        columns: dict[str, object] = {key: datasets.Image()}
        rows: dict[str, object] = {key: images}
        if names is not None:
            columns["label"], rows["label"] = datasets.ClassLabel(names=names), [0, 1]
        return datasets.Dataset.from_dict(rows, features=datasets.Features(columns))

    def saved(name: str, **splits: object) -> str:
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "sets" / name)
        return str(tmp_path / "sets" / name)

    other = saved("other", train=part("image", ["cat", "dog"]), test=part("image", ["dog", "cat"]))
    text = message(open_source, other)
    assert text.startswith(f"Expected the classes of train in all of {other}, cat, dog; got dog, cat in test: audit")
    assert open_source(f"{other}?split=test").classes == ("dog", "cat")
    assert open_source(other, labels=False).labels is None
    source = open_source(saved("some", train=part("image", None), test=part("image", ["cat", "dog"])))
    assert (source.labels, source.classes) == ((-1, -1, 0, 1), ("cat", "dog"))
    uneven = saved("uneven", train=part("image", None), test=part("picture", None))
    assert "to have images under 'image'; test has picture: audit them" in message(open_source, uneven)
    assert message(open_source, saved("empty")).endswith("to have splits, got none")
    assert message(open_source, str(tmp_path / "sets")).endswith("saved: empty, other, some, uneven; name one")
    numbers = datasets.Features({"image": datasets.Array3D((8, 8, 3), "uint8")})
    datasets.Dataset.from_dict({"image": np.zeros((2, 8, 8, 3), np.uint8)}, features=numbers).save_to_disk(
        tmp_path / "numbers"
    )
    assert open_source(str(tmp_path / "numbers")).image(1).shape == (3, 8, 8), "a column that is images by its name"
