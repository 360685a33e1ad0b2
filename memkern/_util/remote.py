"""Files and folders at remote addresses, through fsspec: `s3://`, `gs://`, `hf://`, `https://`, `memory://`, `file://`.

A file or folder is copied into the user's cache once for each state that the remote store tells, and read from there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from memkern._util.optional_imports import require
from memkern.errors import MissingFileError, MissingPackageError

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*(?:::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
_COLLAPSED = re.compile(
    r"(s3|s3a|gs|gcs|hf|https?|memory|file|abfs|abfss|az|ftp|sftp|hdfs|webhdfs|github):/", re.IGNORECASE
)


class FileSystem(Protocol):
    """The part of fsspec's file systems that is used."""

    def info(self, path: str) -> Mapping[str, object]:
        """Tells what is at a path: its "type", "size" and what else the store knows."""

    def ukey(self, path: str) -> str:
        """Tells a key that changes when the file does."""

    def exists(self, path: str) -> bool:
        """Tells whether there is anything at a path."""

    def find(self, path: str, *, detail: bool) -> Mapping[str, Mapping[str, object]]:
        """Lists all files under a path."""

    def get_file(self, rpath: str, lpath: str) -> None:
        """Copies a remote file."""

    def put_file(self, lpath: str, rpath: str) -> None:
        """Copies a local file."""

    def makedirs(self, path: str, *, exist_ok: bool) -> None:
        """Makes a folder and those above."""


def is_remote(path: str | Path) -> bool:
    """Returns whether a path is a remote address; one that `Path` has collapsed (`s3:/bucket`) is one as well."""
    text = str(path)
    return bool(_REMOTE.match(text) or (_COLLAPSED.match(text) and not Path(text.partition("/")[0]).exists()))


def fetch(address: str) -> Path:
    """Copies a remote file or folder into the cache, unless the same state of it is there, and returns the copy.

    Args:
        address: Such as `s3://bucket/weights.pt`, `hf://datasets/NAME/data`; `file://` paths are not copied.

    Returns:
        The local file or folder, under its own last name.

    Raises:
        MissingPackageError: If fsspec, or the package for this kind of store, is missing.
        MissingFileError: If there is nothing at the address, or the store cannot be reached.
    """
    if address.lower().startswith("file://"):
        return Path(address[len("file://") :])
    try:
        files, path = _store(address)
        info = files.info(path)
        if info.get("type") == "directory":
            return _fetched_folder(files, address, path)
        target = _cache() / _digest(address, files.ukey(path)) / _last_name(path)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(files, path, target)
        return target
    except (MissingFileError, MissingPackageError):
        raise
    except Exception as error:  # each store raises kinds of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingFileError(
            f"Expected a file or folder that can be read at {address}, got: {reason[:300]}"
        ) from error


def fetch_with_arguments(text: str) -> str:
    """Copies what a remote address names and puts the copy in its place; `?key=value&…` for memkern stays.

    Args:
        text: An address; of `http://` and `https://` the "?" belongs to the address.

    Returns:
        The local path, with the arguments.
    """
    if text.lower().startswith(("http://", "https://")):
        return str(fetch(text))
    address, mark, arguments = text.partition("?")
    return f"{fetch(address)}{mark}{arguments}"


def address_of(path: str | Path) -> str:
    """Writes the address that `Path` has collapsed (`s3:/bucket`) with both of its slashes."""
    scheme, _, rest = str(path).partition(":")
    return f"{scheme}:///{rest.lstrip('/')}" if scheme.lower() == "file" else f"{scheme}://{rest.lstrip('/')}"


def working_copy(address: str, last: str) -> Path:
    """Names the local folder in which what is to lie at a remote address is made.

    Args:
        address: The address of a folder.
        last: Name of the file by which a complete folder is told.

    Returns:
        The folder, the same for the same address; it need not be there.

    Raises:
        MissingFileError: If a complete folder lies at the address already.
    """
    files, path = _store(address)
    if files.exists(f"{path}/{last}"):
        raise MissingFileError(f"Expected a new folder at {address}, got a complete one: choose another address")
    return _cache().parent / "made" / _digest(address) / _last_name(path)


def upload(folder: Path, address: str, *, last: Sequence[str] = ()) -> None:
    """Copies a finished folder to a remote address.

    Args:
        folder: The folder.
        address: Where its files go.
        last: Names of files that are written after all others: who reads them finds the rest complete.

    Raises:
        OSError: If the store cannot be written.
    """
    files, path = _store(address)
    names = [each.relative_to(folder).as_posix() for each in sorted(folder.rglob("*")) if each.is_file()]
    for name in sorted(names, key=lambda each: each in last):
        files.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        files.put_file(str(folder / name), f"{path}/{name}")


def _store(address: str) -> tuple[FileSystem, str]:
    fsspec = require("fsspec", "fsspec", extra="")
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingPackageError(f"{address} needs another package: {error}", name=error.name) from error
    return cast(FileSystem, files), str(path)


def _fetched_folder(files: FileSystem, address: str, path: str) -> Path:
    found = files.find(path, detail=True)
    if not found:
        raise MissingFileError(f"Expected files under {address}, got none")
    states = [f"{name}\t{files.ukey(name)}" for name in sorted(found)]
    target = _cache() / _digest(address, *states) / _last_name(path)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
    try:
        for name in found:
            inside = name.removeprefix(path).lstrip("/")
            if ".." in inside.split("/"):
                raise MissingFileError(f"Expected files within {address}, got {inside!r}")
            (part / inside).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(name, str(part / inside))
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _copy(files: FileSystem, path: str, target: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".", dir=target.parent)
    os.close(handle)
    try:
        files.get_file(path, name)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _last_name(path: str) -> str:
    name = re.sub(r"[^\w.-]", "_", path.rstrip("/").rpartition("/")[2].partition("?")[0])
    return name if name.strip(".") else "data"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def _cache() -> Path:
    return Path.home() / ".cache" / "memkern" / "remote"
