"""Who saw what: groups, candidates and listed encoders as a membership matrix; every mistake is named with its fix."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import message

from memkern.audit.data.membership import EncoderLine, SeenImages, find_membership, listed_lines, split_lines
from memkern.audit.data.source import Source, from_arrays

FG = split_lines("net", ["a.pt", "b.pt"], ["c.pt"])


@pytest.fixture
def source() -> Source:
    return from_arrays(torch.zeros(6, 3, 8, 8), ids=[f"image{k}" for k in range(6)])


def table(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_names_of_encoders() -> None:
    assert [(each.name, each.role) for each in split_lines("net", ["a"], ["b"])] == [("f", "f"), ("g", "g")]
    assert [each.name for each in split_lines("net", ["a"], [])] == ["f"]
    assert [each.name for each in FG] == ["f1", "f2", "g1"]
    assert [each.name for each in split_lines("net", ["a"], ["b", "c"])] == ["f1", "g1", "g2"]
    assert [each.weights for each in FG] == ["a.pt", "b.pt", "c.pt"]


def test_groups_are_rows_of_the_matrix(source: Source, tmp_path: Path) -> None:
    lines = (
        "id,group,picture",
        "image4,shared,p",
        "image1,candidate,q",
        "2,independent,",
        "image3,extra,q",
        "image0,,p",
    )
    for name in ("groups.csv", "groups.parquet"):
        path = table(tmp_path / name, *lines) if name.endswith("csv") else as_parquet(tmp_path / name, lines)
        seen = find_membership(source, FG, groups=path)
        assert seen.membership.tolist() == [[-1, -1, -1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [-1, -1, -1]]
        assert seen.membership.dtype == np.int8
        assert seen.encoders == ("f1", "f2", "g1")
        assert seen.roles == ("f", "f", "g")
        assert seen.candidates.tolist() == [False, True, False, False, False, False]
        assert seen.groups == (None, "candidate", "independent", "extra", "shared", None)
        assert seen.pictures == ("p", "q", None, "q", "p", None)
        numbers = seen.picture_numbers.tolist()
        assert numbers[0] == numbers[4]
        assert numbers[1] == numbers[3]
        assert len(set(numbers)) == 4


def as_parquet(path: Path, lines: tuple[str, ...]) -> str:
    from pyarrow import parquet, table

    head, *rows = (line.split(",") for line in lines)
    parquet.write_table(table({name: [row[k] or None for row in rows] for k, name in enumerate(head)}), path)
    return str(path)


def test_candidates_alone_leave_the_others_unknown(source: Source) -> None:
    seen = find_membership(source, FG, candidates="1:3")
    assert seen.membership.tolist() == [[-1] * 3, [1, 1, 0], [1, 1, 0], [-1] * 3, [-1] * 3, [-1] * 3]
    assert seen.candidates.tolist() == [False, True, True, False, False, False]
    assert seen.groups == seen.pictures == ()
    assert not find_membership(source, FG).is_known
    alone = find_membership(source, FG[:1], candidates="1:3")
    assert alone.candidates.sum() == 2


def test_listed_encoders(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "family"
    folder.mkdir()
    (folder / "ids.txt").write_text("image0\nimage5\n")
    (folder / "a.pt").write_text("")
    path = table(
        folder / "encoders.csv", "name,encoder,weights,members", "one,net,a.pt?key=teacher,ids.txt", "two,net,b.pt,2:4",
        "none,other,/c.pt,",
    )  # fmt: skip
    lines = listed_lines(Path(path))
    assert [each.weights for each in lines] == [f"{folder}/a.pt?key=teacher", "b.pt", "/c.pt"]
    assert [each.encoder for each in lines] == ["net", "net", "other"]
    seen = find_membership(source, lines)
    assert seen.membership.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert seen.roles == ("", "", "")
    assert not seen.candidates.any()
    pictures = table(tmp_path / "pictures.csv", "id,picture", "image0,p", "image1,p")
    assert find_membership(source, lines, groups=pictures).pictures == ("p", "p", None, None, None, None)


def listed(*members: str) -> list[EncoderLine]:
    return [EncoderLine(f"e{k}", "", "net", f"{k}.pt", each) for k, each in enumerate(members)]


def test_listed_encoders_of_two_kinds_are_a_split(source: Source) -> None:
    seen = find_membership(source, listed("0:3", "2:5", "0:3"))
    assert seen.roles == ("f", "g", "f")
    assert seen.candidates.tolist() == [True, True, False, False, False, False]
    assert find_membership(source, listed("0:3", "0:3")).roles == ("f", "f")
    assert not find_membership(source, listed("0:3", "0:3")).candidates.any()
    assert find_membership(source, listed("", "0:1", "0:2")).roles == ("", "", "")


def test_images_that_are_left_out_leave_the_matrix(source: Source, tmp_path: Path) -> None:
    path = table(tmp_path / "groups.csv", "id,group,picture", "image0,shared,p", "image1,candidate,q")
    seen = find_membership(source, FG, groups=path).without({0, 5})
    assert isinstance(seen, SeenImages)
    assert seen.membership.tolist() == [[1, 1, 0]] + [[-1] * 3] * 3
    assert seen.candidates.tolist() == [True, False, False, False]
    assert seen.groups[0] == "candidate"
    assert seen.pictures == ("q", None, None, None)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (("id,group", "image0,shared", "zebra,extra"), "to name images of arrays; 1 of 2 are none, the first: 'zebra'"),
        (("id,group", "image0,Candidate"), "to be shared, candidate, independent, extra or empty, got 'Candidate' for"),
        (("id,group", "image0,shared", "0,extra"), "for each image, got 'shared' and 'extra' for 'image0'"),
        (("id,picture", "image0,p"), "to have the columns id, group and, if there is one, picture, once each, got ['"),
        (("id,group,pictures", "image0,shared,p"), "to have the columns id, group and, if there is one, picture, once"),
        (("id,group", "image0"), "Expected row 2 of "),
        (("id,group",), "to name at least one image, got none"),
    ],
)  # fmt: skip
def test_mistakes_in_groups(source: Source, tmp_path: Path, lines: tuple[str, ...], wanted: str) -> None:
    path = table(tmp_path / "groups.csv", *lines)
    assert wanted in message(lambda: find_membership(source, FG, groups=path))


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (("name,encoder,weights,members", "a,net,a.pt,", "a,net,b.pt,"), "once, got 'a' twice: leave one out, or ren"),
        (("name,encoder,weights,members", "a,net,,"), "Expected encoder 1 of FILE to have weights, got an empty cell"),
        (("name,encoder,weights", "a,net,a.pt"), "to have the columns name, encoder, weights, members, once each, got"),
        (("name,encoder,weights,members",), "to list at least one encoder, got none"),
    ],
)  # fmt: skip
def test_mistakes_in_the_list_of_encoders(tmp_path: Path, lines: tuple[str, ...], wanted: str) -> None:
    path = table(tmp_path / "encoders.csv", *lines)
    assert wanted in message(lambda: listed_lines(Path(path))).replace(path, "FILE")


def test_files_that_are_not_there(source: Source, tmp_path: Path) -> None:
    assert message(lambda: listed_lines(tmp_path / "no.csv")).endswith("there is no such file")
    assert message(lambda: find_membership(source, FG, groups="no.csv")).endswith("there is no such file")
    wanted = "Expected `members` of encoder 'e1' to be a file or START:STOP, got 'no.txt'; there is no such file"
    assert message(lambda: find_membership(source, listed("", "no.txt"))) == wanted


def test_fifty_thousand_images_and_sixty_four_encoders(tmp_path: Path) -> None:
    count = 50_000
    ids = tuple(f"class{k % 100}/{k:06d}.png" for k in range(count))
    source = Source("many", ids, lambda row: torch.zeros(3, 8, 8), "digest")
    generator = np.random.default_rng(0)
    wanted = generator.integers(0, 2, (count, 64), dtype=np.int8)
    files = []
    for k, column in enumerate(wanted.T):
        files.append(tmp_path / f"{k}.txt")
        files[-1].write_text("\n".join(ids[row] for row in np.flatnonzero(column)))
    start = time.perf_counter()
    seen = find_membership(source, listed(*map(str, files)))
    listing = time.perf_counter() - start
    assert (seen.membership == wanted).all()
    groups = tmp_path / "groups.csv"
    groups.write_text("id,group,picture\n" + "".join(f"{name},extra,{name[:6]}\n" for name in ids))
    start = time.perf_counter()
    grouped = find_membership(source, split_lines("net", ["f"] * 32, ["g"] * 32), groups=str(groups))
    assert not grouped.membership.any()
    assert grouped.picture_numbers.max() < 100
    assert max(listing, time.perf_counter() - start) < 10, "seconds"
