"""Labels from files and folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_data import LABELS, message, picture_folder

from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source


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
