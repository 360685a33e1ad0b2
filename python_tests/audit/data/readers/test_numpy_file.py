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


def test_depths_types_and_claims(tmp_path: Path) -> None:
    deep = IMAGES.astype(np.uint16) * 257
    np.save(tmp_path / "deep.npy", deep)
    assert same_images(open_source(str(tmp_path / "deep.npy")))
    np.save(tmp_path / "swapped.npy", deep.astype(">u2"))
    assert same_images(open_source(str(tmp_path / "swapped.npy"))), "in the other order of bytes"
    np.save(tmp_path / "complex.npy", IMAGES.astype(np.complex64))
    for stated in ("", "?range=0,255"):
        assert "values of complex64, not numbers of pixels" in message(
            lambda name: open_source(name).image(0), f"{tmp_path / 'complex.npy'}{stated}"
        )
    np.save(tmp_path / "wide.npy", IMAGES.astype(np.int32))
    assert "values of int32, whose range is unknown" in message(open_source, str(tmp_path / "wide.npy"))
    assert same_images(open_source(f"{tmp_path / 'wide.npy'}?range=255"))
    assert open_source(f"{tmp_path / 'wide.npy'}?range=0,510").image(0).max() <= 128
    assert message(open_source, f"{tmp_path / 'wide.npy'}?range=5,1").endswith(
        "to be LOW,HIGH or HIGH, 0,4095 say, got (5, 1)"
    )
    assert "have no orientation" in message(open_source, f"{tmp_path / 'deep.npy'}?exif=apply")
    bomb = bytearray((tmp_path / "deep.npy").read_bytes())
    bomb[: bomb.index(b"\n")] = (
        bomb[: bomb.index(b"\n")].replace(b"(6, ", b"(6" + b"0" * 9 + b", ").replace(b" " * 9, b"", 1)
    )
    (tmp_path / "bomb.npy").write_bytes(bomb)
    assert "an .npy file" in message(open_source, str(tmp_path / "bomb.npy"))
