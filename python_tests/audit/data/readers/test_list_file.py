"""Images named in a text file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from image_data import IMAGES, LABELS, message, picture_folder, png, same_images

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


FORMS = {
    "tab.txt": "{}\t{}\n",
    "comma.csv": "{},{}\n",
    "comma-space.csv": "{}, {}\n",
    "space.txt": "{} {}\n",
    "spaces.lst": "  {}   {}  \r\n",
    "quoted.csv": '"{}","{}"\n',
    "head.csv": "path,label\n{},{}\n",
    "pandas.csv": ",filename,class\n7,{},{}\n",
    "semicolon.csv": "label;split;file\n{1};train;{0}\n",
    "tabs.txt": "image\ttarget\n{}\t{}\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.field("data", "lists with heads, quotes, spaces, byte order marks, of MMPretrain and pandas")
def test_lists_as_other_tools_write_them(folder: Path, name: str, encoding: str) -> None:
    *head, form = FORMS[name].splitlines(keepends=True)
    lines = [form.format(f"{'abc'[LABELS[row]]}/deep/{row}.png", LABELS[row] * 2) for row in range(6)]
    (folder / name).write_text("".join([*head, *lines]), encoding=encoding, newline="")
    source = open_source(str(folder / name))
    assert same_images(source)
    assert source.labels == tuple(2 * LABELS)
    assert open_source(str(folder / name), labels=False).labels is None


@pytest.mark.field("data", "lists of names with spaces, commas and other bytes")
def test_names_with_spaces_commas_and_other_bytes(tmp_path: Path) -> None:
    names = [b"a b.png", b"c, d.png", b"e 1", b"\xe9.png", "ü.png".encode()]
    for row, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(png(IMAGES[row]))
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n".join(names))
    source = open_source(str(path))
    assert source.ids == ("a b.png", "c, d.png", "e 1", r"\xe9.png", "ü.png")
    assert source.labels is None
    assert [os.fsencode(Path(each).name) for each in source.paths or ()] == names
    path.write_bytes(b"\n".join(name + b"\t3" for name in names[:-1]) + b"\n" + names[-1] + b"\tx")
    assert open_source(str(path)).classes == ("3", "x")
    path.write_bytes(b"a b.png;3\nc, d.png;0\n")
    assert open_source(str(path)).labels == (3, 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a/deep/0.png 1\ngone.png 2\n", "to exist; 1 do not (line 2), the first: 'gone.png'"),
        ("a/deep/0.png,1\na/deep/3.png,1,2\n", "a path and a label a line in FILE, got 3 cells in line 2: name"),
        ("path,label\na/deep/0.png\n", "Expected 2 cells in line 2 of FILE, as in its head, got 1"),
        ("path,label\n", "Expected one image file a line in FILE, got a head alone"),
        ("a/deep/0.png,1\n./a/deep/0.png,2\nb/deep/1.png,1\n", "got '1' in line 1 and '2' in line 2 for './a/"),
        ("a/deep/0.png\x00\n", "to exist; 1 do not (line 1), the first: 'a/deep/0.png\\x00'"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(folder: Path, text: str, wanted: str) -> None:
    (folder / "list.csv").write_text(text)
    assert wanted in message(open_source, str(folder / "list.csv")).replace(str(folder / "list.csv"), "FILE")


def test_labels_below_zero_and_empty_are_none(folder: Path) -> None:
    (folder / "list.csv").write_text("a/deep/0.png,-1\na/deep/3.png,0\nb/deep/1.png,1\nb/deep/4.png,\n")
    source = open_source(str(folder / "list.csv"))
    assert (source.labels, source.classes) == ((-1, 0, 1, -1), ("0", "1"))
