"""Candidates by id and by position."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from image_data import message, picture_folder

from memkern.audit.data.groups import ImageNames
from memkern.audit.data.open import open_source
from memkern.audit.data.source import from_arrays


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_candidates(folder: Path, tmp_path: Path) -> None:
    names = ImageNames(open_source(str(folder)))
    path = tmp_path / "ids.txt"
    path.write_text("c/deep/5.png\n\n1\n")
    assert names.listed(str(path), "--candidates") == [5, 1]
    assert names.listed("2:4", "--candidates") == [2, 3]
    np.save(tmp_path / "ids.npy", np.array([0]))
    assert names.listed(str(tmp_path / "ids.npy"), "--candidates") == [0]
    assert ImageNames(names.source.without({0})).listed("1:2", "--candidates") == [0], "positions stay"
    path.write_text("zebra.png\n7\n0\n")
    text = message(names.listed, str(path), "--candidates")
    assert text.endswith("; 2 of 3 are none, the first: 'zebra.png'; ids look like 'a/deep/0.png'")
    path.write_text("\n")
    assert message(names.listed, str(path), "--candidates").startswith(
        "Expected --candidates to name at least one image"
    )
    assert message(names.listed, "nowhere", "members").startswith("Expected members to be a file or START:STOP")


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([False, True, True, False, False, True]), [1, 2, 5]),
        (np.array([5, 1], np.uint8), [5, 1]),
        (np.array(["c/deep/5.png", "a/deep/0.png"]), [5, 0]),
        (np.array([b"c/deep/5.png"]), [5]),
        (np.array([b"\xff.png"]), "1 of 1 are none, the first: '\\xff.png'"),
        (np.array([True, False]), "Expected a mask with one value for each of the 6 images of "),
        (np.array([0, 1, 1, 0, 0, 1]), "Expected --candidates to hold positions, got 6 zeros and ones in "),
        (np.array([1.0, 2.0]), "Expected --candidates to hold whole numbers (positions), text (ids) or booleans (a ma"),
        (np.array([np.nan]), "Expected --candidates to hold whole numbers"),
        (np.array([-1, 2]), "Expected --candidates to hold positions from 0 to 5, the images of "),
        (np.array([2, 6]), "Expected --candidates to hold positions from 0 to 5, the images of "),
        (np.array([2**64 - 1], np.uint64), "Expected --candidates to hold positions from 0 to 5, the images of "),
        (np.array([[1], [2]]), "Expected --candidates to be one row of positions, got shape [2, 1]"),
        (np.zeros(0, np.int64), "Expected --candidates to name at least one image, got none in "),
        (np.array([None, 1], object), "an .npy file without Python objects"),
    ],
)
@pytest.mark.field("data", "candidates as masks, positions or ids in `.npy`")
def test_arrays_are_what_they_are(folder: Path, tmp_path: Path, array: np.ndarray, wanted: list[int] | str) -> None:
    names = ImageNames(open_source(str(folder)))
    np.save(tmp_path / "ids.npy", array, allow_pickle=True)
    if isinstance(wanted, str):
        assert wanted in message(names.listed, str(tmp_path / "ids.npy"), "--candidates")
    else:
        assert names.listed(str(tmp_path / "ids.npy"), "--candidates") == wanted


@pytest.mark.parametrize("text", ["0:9999999999", f"0:{10**30}", "5:7", f"{10**30}:{10**30 + 1}"])
def test_bounds_come_before_lists(folder: Path, text: str) -> None:
    names = ImageNames(open_source(str(folder)))
    assert message(names.listed, text, "--candidates").startswith(
        "Expected --candidates to be a range of positions within 0:6, the images of "
    )
    assert "at least one image" in message(names.listed, "4:2", "--candidates")


def test_ranges_are_positions_of_the_full_list(folder: Path) -> None:
    left = ImageNames(open_source(str(folder)).without({1, 5}))
    assert left.listed("0:3", "--candidates") == [0, 1], "positions 0 and 2; 1 was left out"


def test_names_that_look_like_positions(tmp_path: Path) -> None:
    source = from_arrays(np.zeros((4, 8, 8, 3), np.uint8), ids=["2", "x", "0", "7"])
    names = ImageNames(source)
    assert names.listed("0:2", "--candidates") == [0, 1], "a range is of positions, whatever the ids"
    np.save(tmp_path / "ids.npy", np.array([2]))
    assert names.listed(str(tmp_path / "ids.npy"), "--candidates") == [2]
    path = tmp_path / "ids.txt"
    path.write_text("x\n7\n3\n")
    assert names.listed(str(path), "--candidates") == [1, 3, 3]
    path.write_text("x\n2\n")
    assert message(names.listed, str(path), "--candidates").startswith(
        "Expected --candidates to name images one way, got '2' in line 2 of "
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.txt", b"\xef\xbb\xbfa/deep/0.png\nc/deep/5.png\n"),
        ("utf16.txt", "a/deep/0.png\r\nc/deep/5.png\r\n".encode("utf-16")),
        ("head.txt", b"id\na/deep/0.png\nc/deep/5.png"),
        ("quoted.csv", b'"path"\n"a/deep/0.png"\n"c/deep/5.png"\n'),
        ("cells.csv", b"id,label\na/deep/0.png,3\nc/deep/5.png,4\n"),
        ("semicolons.csv", b"id;label\r\na/deep/0.png;3\r\nc/deep/5.png;4\r\n"),
        ("ids.csv", b'image_id\n"a/deep/0.png"\n"c/deep/5.png"\n'),
        ("spaces.txt", b"  a/deep/0.png  \r\n\r\n\tc/deep/5.png\r"),
    ],
)
def test_lists_as_other_programs_write_them(folder: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert ImageNames(open_source(str(folder))).listed(str(tmp_path / name), "--candidates") == [0, 5]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("flags.csv", "id,candidate\na/deep/0.png,True\nc/deep/5.png,False\n", "are meant, got id, candidate in "),
        ("splits.csv", "path;split\na/deep/0.png;train\nc/deep/5.png;test\n", "are meant, got path, split in "),
        ("plain.csv", "a/deep/0.png,yes\nc/deep/5.png,no\n", "are meant, got an image and a flag in "),
        ("mask.txt", "1\n0\n1\n0\n0\n0\n", "got one of two words for each image in "),
        ("words.txt", "True\nFalse\nTrue\nTrue\nTrue\nTrue\n", "save it as booleans"),
        ("digits.txt", "9" * 5000, "1 of 1 are none"),
        ("long.csv", "x" * 200_000 + ",1", "to be a list of images, got: field larger than field limit"),
        ("utf16.txt", "a\0/\0\n\0", "got UTF-16 or binary data: save it as UTF-8"),
    ],
)
@pytest.mark.field("data", "candidates as a column of flags, or a mask as text: refused")
def test_lists_that_say_yes_and_no_are_refused(
    folder: Path, tmp_path: Path, name: str, content: str, wanted: str
) -> None:
    (tmp_path / name).write_text(content)
    assert wanted in message(ImageNames(open_source(str(folder))).listed, str(tmp_path / name), "--candidates")


def test_what_is_no_file_and_no_range_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    listed = ImageNames(open_source(str(folder))).listed
    os.mkfifo(tmp_path / "pipe")
    assert message(listed, str(tmp_path / "pipe"), "--candidates").endswith("; it is a FIFO, socket or device")
    assert message(listed, str(tmp_path), "--candidates").endswith("; it is a folder")
    for text in ("-1:2", "0:-1", "3:", "0:2:1", "0 : 2"):
        assert message(listed, text, "--candidates").endswith("; a range has two whole numbers, 0:100 say"), text
