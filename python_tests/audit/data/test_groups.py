"""Candidates by id and by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_data import message, picture_folder

from memkern.audit.data.groups import ImageNames
from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_candidates(folder: Path, tmp_path: Path) -> None:
    names = ImageNames(open_source(str(folder)))
    path = tmp_path / "ids.txt"
    path.write_text("c/deep/5.png\n\n1\n")
    assert names.listed(str(path), "--candidates").tolist() == [5, 1]
    assert names.listed("2:4", "--candidates").tolist() == [2, 3]
    np.save(tmp_path / "ids.npy", np.array([0]))
    assert names.listed(str(tmp_path / "ids.npy"), "--candidates").tolist() == [0]
    assert ImageNames(names.source.without({0})).listed("1:2", "--candidates").tolist() == [0], "positions stay"
    path.write_text("zebra.png\n7\n0\n")
    text = message(names.listed, str(path), "--candidates")
    assert text.endswith("; 2 of 3 are none, the first: 'zebra.png'; ids look like 'a/deep/0.png'")
    path.write_text("\n")
    assert message(names.listed, str(path), "--candidates").startswith(
        "Expected --candidates to name at least one image"
    )
    assert message(names.listed, "nowhere", "members").startswith("Expected members to be a file or START:STOP")
