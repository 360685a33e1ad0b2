"""Images of a data set that Hugging Face `datasets` saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_data import IMAGES, LABELS, png, same_images

from memkern.audit.data.open import open_source


def test_hugging_face_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"picture": [{"bytes": png(image), "path": None} for image in IMAGES], "kind": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    source = open_source(str(tmp_path / "set"))
    assert same_images(source)
    assert source.labels == tuple(LABELS)
    assert source.classes == ("a", "b", "c")
