"""Files and folders at remote addresses, on fsspec's memory and local file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memkern._util.remote import address_of, fetch, fetch_with_arguments, is_remote, upload, working_copy
from memkern.errors import MissingFileError, MissingPackageError

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The memory file system, empty, and a home of its own for the cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.mark.parametrize(
    "text", ["s3://b/x", "gs://b/x", "hf://datasets/n/x", "https://h/x?y=1", "memory://x", "file:///x"]
)
def test_addresses(text: str) -> None:
    assert is_remote(text)
    assert is_remote(Path(text)), "Path makes one slash of two"
    if not text.startswith("https"):
        assert address_of(Path(text)) == text


def test_what_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("data", "/data/x", "py:file.py:make", "torchvision:CIFAR10?root=/x", "a:/b", "timm:x"):
        assert not is_remote(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert not is_remote(Path("s3:/x")), "a folder of this name"


def test_a_file_is_copied_once_for_each_state(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/bucket/w.bin", b"one")
    first = fetch("memory://bucket/w.bin")
    assert (first.name, first.read_bytes()) == ("w.bin", b"one")
    stamp = first.stat().st_mtime_ns
    assert fetch("memory://bucket/w.bin") == first
    assert first.stat().st_mtime_ns == stamp, "not copied again"
    memory.pipe("/bucket/w.bin", b"other")
    assert fetch("memory://bucket/w.bin").read_bytes() == b"other"
    assert fetch_with_arguments("memory://bucket/w.bin?key=x").endswith("w.bin?key=x")
    with pytest.raises(MissingFileError, match=r"that can be read at memory://bucket/no\.bin, got: "):
        fetch("memory://bucket/no.bin")


def test_a_folder_is_copied_whole_or_not_at_all(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("a/1.png", "b/c/2.png"):
        memory.pipe(f"/data/{name}", name.encode())
    get_file, broken = type(memory).get_file, ["b/c/2.png"]

    def copied(self: object, rpath: str, lpath: str, **options: object) -> None:
        if any(rpath.endswith(each) for each in broken):
            raise OSError("the connection was lost")
        get_file(self, rpath, lpath, **options)

    monkeypatch.setattr(type(memory), "get_file", copied)
    with pytest.raises(MissingFileError, match="the connection was lost"):
        fetch("memory://data")
    assert not [each for each in (tmp_path / "home").rglob("*") if each.is_file()]
    broken.clear()
    folder = fetch("memory://data")
    assert folder.name == "data"
    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.png")} == {
        "a/1.png": "a/1.png",
        "b/c/2.png": "b/c/2.png",
    }


def test_files_of_this_machine_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    assert fetch(f"file://{tmp_path}/x.bin") == tmp_path / "x.bin"


def test_a_folder_is_uploaded_with_its_last_file_last(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    folder = working_copy("memory://runs/one", "manifest.json")
    (folder / "sub").mkdir(parents=True)
    for name in ("manifest.json", "sub/x", "z"):
        (folder / name).write_text(name)
    order: list[str] = []
    put_file = type(memory).put_file
    try:
        type(memory).put_file = lambda self, *paths, **o: (order.append(paths[1]), put_file(self, *paths, **o))[1]
        upload(folder, "memory://runs/one", last=("manifest.json",))
    finally:
        type(memory).put_file = put_file
    assert order[-1].endswith("/manifest.json")
    assert memory.cat_file("/runs/one/sub/x") == b"sub/x"
    with pytest.raises(MissingFileError, match="got a complete one"):
        working_copy("memory://runs/one", "manifest.json")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("HOME") and fsspec.utils.get_protocol("s3://b"):
        try:
            import s3fs  # noqa: F401
        except ImportError:
            with pytest.raises(MissingPackageError, match=r"needs another package: .*s3fs"):
                fetch("s3://bucket/x")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingPackageError, match="pip install 'fsspec'"):
        fetch("memory://x")
