"""Tables and lists that are read a piece at a time: the pieces make the whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch

from memkern.audit.data import groups
from memkern.audit.data.files import read_table
from memkern.audit.data.source import from_arrays
from memkern.audit.measure import begun


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_of_any_encoding_and_line_end(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ("id, group", 'ä\u2028"1.png, extra', '"a, ""b"".png",shared', "", "c.png,")
    (tmp_path / "t.csv").write_bytes(end.join(lines).encode(encoding))
    wanted = {"id": ['ä\u2028"1.png', 'a, "b".png', "c.png"], "group": ["extra", "shared", ""]}
    assert read_table(tmp_path / "t.csv", ("id", "group")) == wanted


def test_names_of_files_may_be_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,group\nna\xefve.png,extra\n")
    assert read_table(tmp_path / "t.csv", ("id", "group"))["id"] == ["na\udcefve.png"]


def test_a_list_that_is_looked_up_and_written_in_blocks_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"image {row}" for row in range(10)]
    asked = [ids[row] for row in (3, 9, 0, 3, 5, 1, 8)]
    monkeypatch.setattr(groups, "BLOCK", 3)
    found = groups.ImageNames(from_arrays(torch.zeros(10, 3, 8, 8), ids=ids)).rows([*asked, "7"], "names")
    assert found.tolist() == [3, 9, 0, 3, 5, 1, 8, 7]
    columns = {
        "id": ids, "index": range(10), "label": [None] * 9 + [4], "candidate": torch.arange(10).numpy() > 4,
        "member/f": torch.arange(20, dtype=torch.int8).reshape(10, 2).numpy().T[1],
    }  # fmt: skip
    monkeypatch.setattr(begun, "ROW_GROUP", 4)
    begun._write_images(tmp_path, columns)
    assert parquet.ParquetFile(tmp_path / begun.IMAGES).num_row_groups == 3
    made = parquet.read_table(tmp_path / begun.IMAGES).to_pydict()
    assert made == {name: list(values) for name, values in columns.items()}
