"""Images in an HDF5 file."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_data import IMAGES, LABELS, same_images

from memkern.audit.data.open import open_source


def test_data_sets_by_name(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/pictures"], file["train/labels"] = IMAGES, LABELS
    source = open_source(f"{tmp_path / 'x.h5'}?images=train/pictures&labels=train/labels")
    assert same_images(source)
    assert source.ids == tuple("012345")
    assert source.labels == tuple(LABELS)
