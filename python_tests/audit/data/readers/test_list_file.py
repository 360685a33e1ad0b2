"""Images named in a text file."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_data import LABELS, message, picture_folder, same_images

from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_list_with_and_without_labels(folder: Path) -> None:
    lines = [f"{'abc'[LABELS[row]]}/deep/{row}.png" for row in range(6)]
    path = folder / "list.txt"
    path.write_text("\n".join([*lines, lines[2], f"./{lines[1]}"]))
    source = open_source(str(path))
    assert source.ids == tuple(lines)
    assert len(source.repeated) == 2, "named twice, used once"
    assert same_images(source)
    path.write_text("\n".join(f"{line}\t{'xyz'[row % 3]}" for row, line in enumerate(lines)))
    assert open_source(str(path)).classes == ("x", "y", "z")
    assert open_source(str(path)).labels == (0, 1, 2, 0, 1, 2)
    path.write_text("gone.png\n")
    assert message(open_source, str(path)).endswith("to exist; 1 do not (line 1), the first: 'gone.png'")
    path.write_text("")
    assert message(open_source, str(path)).startswith("Expected one image file a line in ")
