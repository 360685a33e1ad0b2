"""Images in files of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from image_data import IMAGES, LABELS, message, same_images

from memkern.audit.data.open import open_source


def test_arrays_with_and_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    for name, labels in {"x.npy": None, "x.npz": tuple(LABELS)}.items():
        source = open_source(str(tmp_path / name))
        assert same_images(source), name
        assert source.ids == tuple("012345")
        assert source.labels == labels


def test_which_array_holds_the_images(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=IMAGES, b=LABELS)
    assert message(open_source, str(path)).endswith(f"got a, b; name it: {path}?images=KEY")
    assert message(open_source, f"{path}?images=c").endswith("to have images under 'c'; it has a, b")
    assert open_source(f"{path}?images=a&labels=b").labels == tuple(LABELS)
