"""Labels from files and folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import LABELS, message, picture_folder

from memkern.audit.data.classes import numbers_or_names
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source
from memkern.audit.data.source import from_arrays, with_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_labels_from_files(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "\n".join(f"{name},{'yx'[row % 2]}" for row, name in enumerate(source.ids)))
    labeled = apply_labels(source, str(table))
    assert (labeled.labels, labeled.classes) == ((1, 0, 1, 0, 1, 0), ("x", "y"))
    np.save(tmp_path / "labels.npy", LABELS)
    assert apply_labels(source, str(tmp_path / "labels.npy")).labels == tuple(LABELS)
    for between in ";\t":
        table.write_text("id,label\n".replace(",", between) + "".join(f"{name}{between}x\n" for name in source.ids))
        assert apply_labels(source, str(table)).classes == ("x",)
    (tmp_path / "labels.txt").write_text("1 1 0 0 2 2")
    assert apply_labels(source, str(tmp_path / "labels.txt")).labels == (1, 1, 0, 0, 2, 2)
    (tmp_path / "labels.txt").write_text("1 1 0")
    assert message(apply_labels, source, str(tmp_path / "labels.txt")).endswith(
        "(6 images), got 3; --labels none goes on without labels"
    )
    table.write_text("a/deep/0.png,1\n")
    assert message(apply_labels, source, str(table)).endswith("5 lack one, first 'a/deep/3.png'")
    table.write_text("a/deep/0.png\n")
    assert message(apply_labels, source, str(table)).endswith("the columns id and label, got the row ['a/deep/0.png']")
    np.save(tmp_path / "labels.npy", np.array(["cat", "dog"] * 3))
    assert apply_labels(source, str(tmp_path / "labels.npy")).classes == ("cat", "dog")
    (tmp_path / "labels.txt").write_bytes(b"1\n2\nb\xe9te\n1\n2\n1\n")
    text = message(apply_labels, source, str(tmp_path / "labels.txt"))
    assert text.endswith("to be a text file in UTF-8, got other bytes in line 3: b\\xe9te; save it as UTF-8")
    assert message(apply_labels, source, "nowhere").startswith("Expected --labels to be auto, none, folder or a file")


@pytest.mark.field("data", "labels below zero, null or NaN")
def test_labels_below_zero_and_missing_are_none(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    for values in ([-1, 0, 1, -1], [np.nan, 0.0, 1.0, np.nan]):
        source = from_arrays(images, torch.tensor(values))
        assert (source.labels, source.classes) == ((-1, 0, 1, -1), ("0", "1"))
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([-1, -1, -1, -1]))
    source = open_source(str(tmp_path / "x.npz"))
    assert (source.labels, source.classes) == (None, None)
    assert source.notes == (
        f"No image of {tmp_path / 'x.npz'} has a label: those below zero or missing say that there is none.",
    )
    assert with_labels(source, ["b", None, "", "a"], None).labels == (1, -1, -1, 0)
    assert with_labels(source, [b"b", b"a", b"a", b"b"], None).classes == ("a", "b"), "bytes are text"
    assert numbers_or_names(["-1", "2", "", "NaN"]) == [-1, 2, None, None]
    assert numbers_or_names(["1.0", "", "0.0", "12"]) == [1, None, 0, 12], "as pandas writes a column with a gap"
    assert message(numbers_or_names, ["1.5", "0"]).startswith("Expected whole numbers or names as labels, got 1.5")
    assert numbers_or_names(["9" * 5000, "0"]) == ["9" * 5000, "0"]
    assert numbers_or_names(["nan", "cat"]) == ["nan", "cat"], "a class of this name"


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.eye(4), "one-hot labels become numbers with argmax(1)"),
        (np.zeros((4, 2, 2)), "got shape [4, 2, 2]"),
        (np.array([0.5, 1, 1, 0]), "Expected whole numbers or names as labels of "),
        (np.array([0, 1, 2, 10**12]), "below 1048576, the most classes; got 1000000000000"),
        (np.array([0, 1]), "Expected one label per image of "),
        (np.array([1j, 0, 0, 0]), "Expected one number or name as label of each image of "),
    ],
)  # fmt: skip
@pytest.mark.field("data", "one-hot labels and several for one image: refused, or left out")
def test_labels_that_are_none_have_a_way_on(tmp_path: Path, labels: np.ndarray, wanted: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((4, 8, 8, 3), np.uint8), labels=labels)
    text = message(open_source, str(path))
    assert wanted in text
    assert text.endswith("; --labels none goes on without labels")
    assert open_source(str(path), labels=False).labels is None
    assert open_source(f"{path}?labels=none").labels is None


def test_two_labels_for_one_image(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    table = tmp_path / "labels.csv"
    rows = [f"{name},{row % 2}" for row, name in enumerate(source.ids)]
    table.write_text(
        "\n".join(["\ufefflabel,id", *(",".join(reversed(row.split(","))) for row in rows), "0,a/deep/0.png"])
    )
    assert apply_labels(source, str(table)).labels == (0, 1, 0, 1, 0, 1), "the head says which column is which"
    table.write_text("\n".join([*rows, "a/deep/0.png,1"]))
    assert "one label for each image" in message(apply_labels, source, str(table))
