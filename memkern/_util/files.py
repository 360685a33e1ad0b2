"""Files that are either whole or not there, and the names in files of tensors."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and moves it to `path` when the block ends without an error.

    A reader, or a run after one that was killed, sees the old file or the new one, never a half of it.

    Args:
        path: The file to write; its folder is made if it is missing.

    Yields:
        The temporary path, with the same ending as `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, atomically; NaN is an error, for JSON has none."""
    with replace_atomically(path) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, head: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table as comma-separated text with a line of heads, atomically."""
    with replace_atomically(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Returns the SHA-256 digest of a file, in hexadecimal."""
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
        ValueError: If the file is not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def strip_prefix(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Returns the entries of a file of tensors whose names begin with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
