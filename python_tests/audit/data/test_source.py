"""Images in memory, and the modes of image files."""

from __future__ import annotations

from pathlib import Path

import audit_helpers
import numpy as np
import torch
from image_data import IMAGES, LABELS, message, png, same_images

from memkern.audit.data.decode import Pixels
from memkern.audit.data.open import open_source
from memkern.audit.data.source import from_arrays


def test_arrays() -> None:
    source = from_arrays(torch.from_numpy(IMAGES), LABELS.tolist(), [f"n{i}" for i in range(6)])
    assert same_images(source)
    assert source.ids[5] == "n5"
    assert from_arrays(np.zeros((2, 1, 4, 4), np.float32)).image(0).shape == (1, 4, 4)
    assert message(from_arrays, np.zeros((2, 4, 4))).startswith("Expected images of arrays to have shape [N, C, H, W]")
    assert message(from_arrays, IMAGES, None, ["a"]) == "Expected one id per image of arrays, got 1 ids and 6 images"


def test_modes_of_pictures() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(Pixels().file(png(gray)), torch.from_numpy(gray).expand(3, 8, 8))
    deep = (gray.astype(np.uint16) << 8) + 7
    assert torch.equal(Pixels().file(png(deep)), torch.from_numpy(gray).expand(3, 8, 8))
    assert Pixels().file(png(np.dstack([IMAGES[0], gray]))).shape == (3, 8, 8)


def test_the_helpers_make_what_they_say(tmp_path: Path) -> None:
    assert len(open_source(str(audit_helpers.pictures(tmp_path)))) == 12
