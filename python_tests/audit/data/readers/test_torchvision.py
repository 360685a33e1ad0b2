"""Images of a data set of torchvision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_data import IMAGES, message, picture_folder

from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_torchvision_data_set(folder: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    source = open_source(f"torchvision:ImageFolder?root={folder}")
    assert source.classes == ("a", "b", "c")
    assert torch.equal(source.image(1), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    assert message(open_source, "torchvision:CIFARR").startswith(
        "Expected a data set of torchvision.datasets, got 'CIFARR'"
    )
    text = message(open_source, f"torchvision:CIFAR10?root={folder}")
    assert text.startswith("Expected torchvision's CIFAR10 at hand, got: Dataset not found")
