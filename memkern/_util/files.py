"""Files that are either whole or not there, regular files alone, and the names in files of tensors."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError

T = TypeVar("T")

PART = ".memkern.part."
"""How the name of a file that is being written begins."""


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and moves it to `path` when the block ends without an error.

    A reader, or a run after one that was killed, sees the old file or the new one, never a half of it.

    Args:
        path: The file to write; its folder is made if it is missing.

    Yields:
        The temporary path, with the same ending as `path`.
    """
    if path.exists():
        require_regular(path)  # a device or FIFO would be replaced by a file, or never be read
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f"{PART}{secrets.token_hex(8)}{path.suffix[-16:]}"
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less what the user's umask takes away
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    os.close(handle)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(mode)  # a library may have put a file of its own there
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folders: Iterable[Path]) -> None:
    """Removes what processes that were killed while they wrote left in some folders; nobody may be writing there."""
    for folder in folders:
        for left in folder.glob(f"{PART}*"):
            left.unlink(missing_ok=True)


def require_regular(path: Path) -> None:
    """Requires a regular file, or a link to one: a FIFO or device would be waited for without end.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If there is something else under the name.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "FIFO" if stat.S_ISFIFO(mode) else "device or socket"
        raise OSError(f"Expected {path} to be a file, got a {kind}")


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, atomically; NaN is an error, for JSON has none."""
    with replace_atomically(path) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, atomically.

    Args:
        path: The file.
        tensors: Name -> tensor, contiguous, on the CPU.
        metadata: Text that the file holds beside them.

    Raises:
        MissingPackageError: If safetensors is missing.
        OSError: If the file cannot be written.
    """
    # `save_file` would write to a temporary file of its own, which stays when the process is killed.
    held = require("safetensors.torch", "safetensors").save(dict(tensors), metadata=dict(metadata))
    with replace_atomically(path) as part:
        part.write_bytes(held)


def write_csv(path: Path, head: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table as comma-separated text with a line of heads, atomically."""
    with replace_atomically(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Returns the SHA-256 digest of a regular file, in hexadecimal."""
    require_regular(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):  # weights can be larger than memory to spare
            digest.update(part)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.

    Returns:
        The value that the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it is no regular file.
        ValueError: If the file is not JSON.
    """
    require_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # editors put a byte order mark there
    except RecursionError as error:
        raise ArgumentValueError("lists within lists, deeper than can be read") from error


def strip_prefix(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Returns the entries of a file of tensors whose names begin with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
