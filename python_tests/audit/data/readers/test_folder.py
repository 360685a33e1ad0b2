"""Images in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_data import IMAGES, message, picture_folder, png

from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_folder(folder: Path) -> None:
    source = open_source(str(folder))
    assert source.ids == (
        "a/deep/0.png",
        "a/deep/3.png",
        "b/deep/1.png",
        "b/deep/4.png",
        "c/deep/2.png",
        "c/deep/5.png",
    )
    assert source.labels == (0, 0, 1, 1, 2, 2)
    assert source.classes == ("a", "b", "c")
    assert torch.equal(source.image(1), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    assert source.digest == open_source(str(folder)).digest
    (folder / "a" / "deep" / "0.png").write_bytes(png(IMAGES[0]) + b"x")
    assert source.digest != open_source(str(folder)).digest
    assert apply_labels(source, "none").labels is None
    assert message(apply_labels, source, "folder").startswith("Expected --labels folder with images in two or more")
