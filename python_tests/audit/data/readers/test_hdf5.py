"""Images in an HDF5 file."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_data import IMAGES, LABELS, message, same_images

from memkern.audit.data.open import open_source


def test_data_sets_by_name(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/pictures"], file["train/labels"] = IMAGES, LABELS
    source = open_source(f"{tmp_path / 'x.h5'}?images=train/pictures&labels=train/labels")
    assert same_images(source)
    assert source.ids == tuple("012345")
    assert source.labels == tuple(LABELS)


@pytest.mark.field("data", "HDF5 with external storage or virtual sources: refused")
def test_a_file_must_not_read_others(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(6 * 8 * 8 * 3))
    with h5py.File(tmp_path / "inner.h5", "w") as file:
        file["images"] = IMAGES
    layout = h5py.VirtualLayout(IMAGES.shape, "u1")
    layout[:] = h5py.VirtualSource(tmp_path / "inner.h5", "images", IMAGES.shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("external", IMAGES.shape, "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        file.create_virtual_dataset("virtual", layout)
        file["linked"] = h5py.ExternalLink(str(tmp_path / "inner.h5"), "images")
        file["images"], file["labels"] = IMAGES, LABELS
    for key, kind in {"external": "external storage", "virtual": "a virtual data set"}.items():
        text = message(open_source, f"{tmp_path / 'x.h5'}?images={key}")
        assert f"got {kind}, which reads other files" in text
    assert "to have images under 'linked'" in message(open_source, f"{tmp_path / 'x.h5'}?images=linked")
    assert "external storage" in message(open_source, f"{tmp_path / 'x.h5'}?images=images&labels=external")
    assert same_images(open_source(str(tmp_path / "x.h5")))


def test_a_claimed_number_of_images_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (10**12, 3, 32, 32), "u1", chunks=(1, 3, 32, 32))
    assert "bytes that claims 1000000000000" in message(open_source, str(tmp_path / "x.h5"))
