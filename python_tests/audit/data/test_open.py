"""Images by name: which reader takes what, and what none takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_data import message, picture_folder

from memkern._util.registry import records
from memkern.audit.data import readers
from memkern.audit.data.open import image_readers, open_source, reader_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.doc").write_text("")
    (tmp_path / "x.parquet").write_text("no")
    (tmp_path / "x.txt").mkdir()
    kinds = (
        "FILE.h5 (HDF5), FILE.tar (WebDataset), DIR (folder), FILE.txt (list), FILE.npz (numpy), FILE.parquet "
        "(parquet), py:FILE.py:FUNCTION (py), DIR (saved data set), torchvision:NAME?root=DIR (torchvision)"
    )
    text = message(open_source, str(tmp_path / "no"))
    assert text == f"Expected --data to be one of {kinds}, got '{tmp_path / 'no'}'; no such file or folder"
    assert message(open_source, str(tmp_path / "empty")).startswith("Expected images under ")
    for ending in ("zip", "tar.gz", "TGZ", "tar.zst"):
        (tmp_path / f"x.{ending}").write_text("")
        text = message(open_source, str(tmp_path / f"x.{ending}"))
        assert text.endswith(f"got the archive '{tmp_path / 'x'}.{ending}': unpack it and name the folder")
    text = message(open_source, str(tmp_path / "x.doc"))
    assert text == f"Expected --data to be one of {kinds}, got '{tmp_path / 'x.doc'}', which is of no such kind"
    assert message(open_source, str(tmp_path / "x.txt")).startswith("Expected images under "), "a folder by any name"
    assert "to be a parquet file, got: " in message(open_source, str(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.npy", "an .npy file without Python objects"),
        ("x.npz", "an .npz file without Python objects"),
        ("x.h5", "an HDF5 file"),
        ("x.parquet", "a parquet file"),
        ("x.tar", "a tar file without compression"),
        ("x.txt", "a text file"),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path: Path, name: str, kind: str) -> None:
    if name == "x.h5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    for content in (b"", b"\xff\xfe garbage", b"PK\x03\x04 garbage", b"\x93NUMPY garbage"):
        (tmp_path / name).write_bytes(content)
        if name not in ("x.txt", "x.tar") or content:
            whole = f"Expected {tmp_path / name} to be {kind}, got: "
            text = message(open_source, str(tmp_path / name))
            assert text.startswith(whole) or (name == "x.txt" and text.startswith("Expected the files of"))


def test_one_reader_takes_a_path(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    paths = {folder: "folder", tmp_path / "saved": "saved data set"}
    for suffix, kind in {
        "h5": "HDF5", "hdf5": "HDF5", "txt": "list", "lst": "list", "csv": "list", "npy": "numpy", "npz": "numpy",
        "parquet": "parquet", "tar": "WebDataset",
    }.items():  # fmt: skip
        (tmp_path / f"x.{suffix}").write_bytes(b"")
        (tmp_path / f"folder.{suffix}").mkdir()
        paths |= {tmp_path / f"x.{suffix}": kind, tmp_path / f"folder.{suffix}": "folder"}
    for path, kind in paths.items():
        assert [reader.name for reader in image_readers() if reader.takes(path)] == [kind]
    assert {*paths.values(), "torchvision", "py"} == {reader.name for reader in image_readers()}


def test_a_new_reader_is_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(
        "from memkern.audit.data.reader import Reader\n"
        "from memkern.audit.data.source import from_arrays\n"
        "import numpy as np\n"
        "def _open(spec):\n"
        "    shape = (int(spec.name), 4, 4, 3)\n"
        "    return from_arrays(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), name=spec.text)\n"
        "READER = Reader('noise', 'random pixels', 'noise:N', '', _open, prefix='noise')\n"
    )
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    records.cache_clear()
    try:
        assert len(open_source("noise:5")) == 5
        assert "noise:N (noise)" in message(open_source, str(tmp_path / "no"))
        assert "| `noise:N` | noise | random pixels | has none |  |\n" in reader_table()
    finally:
        records.cache_clear()
