"""Candidates by id and by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_data import message, picture_folder

from memkern.audit.data.groups import candidate_rows
from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_candidates(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    path = tmp_path / "ids.txt"
    path.write_text("c/deep/5.png\n\n1\n")
    assert candidate_rows(source, str(path)) == [False, True, False, False, False, True]
    assert candidate_rows(source, "2:4") == [False, False, True, True, False, False]
    np.save(tmp_path / "ids.npy", np.array([0]))
    assert candidate_rows(source, str(tmp_path / "ids.npy"))[0]
    assert candidate_rows(source.without({0}), "1:2") == [True, False, False, False, False], "positions stay"
    path.write_text("zebra.png\n7\n0\n")
    text = message(candidate_rows, source, str(path))
    assert text.endswith("; 2 of 3 are none, the first: 'zebra.png'; ids look like 'a/deep/0.png'")
    path.write_text("\n")
    assert message(candidate_rows, source, str(path)).startswith("Expected --candidates to name at least one image")
    assert message(candidate_rows, source, "nowhere").startswith("Expected --candidates to be a file or START:STOP")
