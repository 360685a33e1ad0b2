"""Six small images with labels, in memory and as files, for the tests of memkern.audit.data."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import audit_helpers  # noqa: F401  (skips the tests without the packages of memkern[audit])
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from memkern.audit.data.source import Source

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def png(array: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def picture_folder(folder: Path) -> Path:
    """Writes the images to `folder`/a, b and c, by label, beside a file that is no image."""
    for row, image in enumerate(IMAGES):
        path = folder / "abc"[LABELS[row]] / "deep" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (folder / "notes.txt").write_text("no image")
    return folder


def same_images(source: Source) -> bool:
    """Whether a source has the images, in order."""
    return all(torch.equal(source.image(row), torch.from_numpy(IMAGES[row]).permute(2, 0, 1)) for row in range(6))


def message(work: Callable[..., object], *arguments: object) -> str:
    """The text of the error that a call raises."""
    with pytest.raises((ValueError, ImportError)) as error:
        work(*arguments)
    return str(error.value)
