"""Files of data: a file that is not what it should be is an error that names it."""

from __future__ import annotations

import codecs
import csv
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from memkern._util.files import require_regular
from memkern._util.optional_imports import require
from memkern._util.text import near_files, printable
from memkern.errors import DataError, MemkernError

FEW = 10_000
"""So many different texts of a table are kept once each."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns what the reader of a file raises, of whatever kind, into an error that names the file.

    Args:
        path: The file.
        what: What it is read as, "a parquet file" say.

    Raises:
        DataError: If the block raises; errors of memkern's own pass.
    """
    try:
        yield
    except MemkernError:
        raise
    except Exception as error:
        raise DataError(f"Expected {path} to be {what}, got: {error}") from error


def read_text(path: Path) -> str:
    """Reads a text file: UTF-8, or UTF-16 with a byte order mark.

    Args:
        path: The file.

    Returns:
        The text without byte order mark; bytes that are not UTF-8 as surrogates, as in names of files.

    Raises:
        DataError: If the file cannot be read.
    """
    with reading(path, "a text file"):
        require_regular(path)
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        if data.count(0) * 4 > len(data):
            raise DataError(f"Expected {path} to be a text file in UTF-8, got UTF-16 or binary data: save it as UTF-8")
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """Splits a text at its line ends; names may hold what Python splits lines at besides."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def refuse_other_encodings(text: str, path: Path) -> None:
    """Requires a text of UTF-8 where it is not a list of files, whose names may be any bytes.

    Args:
        text: What `read_text` gave.
        path: The file, for the message.

    Raises:
        DataError: If the text holds bytes that are not UTF-8; the message has the line.
    """
    for number, line in enumerate(lines_of(text), 1):
        if not line.isascii() and re.search("[\udc80-\udcff]", line):
            raise DataError(
                f"Expected {path} to be a text file in UTF-8, got other bytes in line {number}: "
                f"{printable(line)[:80]}; save it as UTF-8"
            )


def between_cells(line: str) -> str:
    """Returns what stands between the cells of a table, told by its first line: a comma, semicolon or tab."""
    return next((each for each in ",;\t" if each in line), ",")


def what_is(path: Path) -> str:
    """Says what is under a name that should be a file's, for the message that it is none."""
    if path.is_dir():
        return "it is a folder"
    return "it is a FIFO, socket or device" if path.exists() else f"there is no such file{near_files(path)}"


def read_lines(path: Path, *, quotes: bool = False) -> list[str]:
    """Reads the lines of a text file that hold more than spaces, without the spaces and quotes around.

    Args:
        path: The file; bytes that are not UTF-8 become surrogates.
        quotes: Whether the quotes stay.

    Returns:
        The lines, in order.

    Raises:
        DataError: If the file cannot be read.
    """
    lines = (line.strip() for line in lines_of(read_text(path)))
    if quotes:
        return [line for line in lines if line]
    return [line[1:-1] if len(line) > 1 and line[0] == line[-1] == '"' else line for line in lines if line]


def read_table(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Reads a table of text: a `.parquet` file, or a `.csv` file whose first line names the columns.

    Args:
        path: The file.
        needed: Columns that must be there.
        optional: Columns that may be there.

    Returns:
        Column -> its values without spaces around, "" for those that are left out. All columns have one length.

    Raises:
        DataError: If the file cannot be read, lacks a column, has another one, or names a column twice.
    """
    with reading(path, "a .csv or .parquet file"):
        columns = _parquet_columns(path) if path.suffix == ".parquet" else _csv_columns(path)
    names = [name for name, _ in columns]
    missing = [name for name in needed if name not in names]
    other = [name for name in names if name not in (*needed, *optional) or names.count(name) > 1]
    if missing or other:
        also = f" and, if there is one, {', '.join(optional)}" if optional else ""
        raise DataError(f"Expected {path} to have the columns {', '.join(needed)}{also}, once each, got {names}")
    return dict(columns)


def _opened_text(path: Path) -> TextIO:
    """Opens what `read_text` reads whole: a text of millions of lines takes five times its size in memory."""
    with path.open("rb") as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return path.open(encoding="utf-16", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv_columns(path: Path) -> list[tuple[str, list[str]]]:
    same: dict[str, str] = {}  # a cell of few values is kept once: lists have millions of rows
    with _opened_text(path) as file:
        first = file.readline()
        file.seek(0)
        rows = filter(None, csv.reader(file, delimiter=between_cells(first)))
        head = [cell.strip() for cell in next(rows, [])]
        columns: list[list[str]] = [[] for _ in head]
        for number, row in enumerate(rows, 2):
            if len(row) != len(head):
                raise DataError(f"Expected row {number} of {path} to have {len(head)} cells, got {len(row)}: {row}")
            for column, cell in zip(columns, row, strict=True):
                text = cell.strip()
                column.append(same.get(text, text))
                if len(same) < FEW:
                    same.setdefault(text, text)
    return list(zip(head, columns, strict=True))


def _parquet_columns(path: Path) -> list[tuple[str, list[str]]]:
    table = require("pyarrow.parquet", "pyarrow").ParquetFile(path).read()
    named = zip(table.column_names, table.columns, strict=True)
    return [(name, [_cell(cell).strip() for cell in held.to_pylist()]) for name, held in named]


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)


def read_array(path: Path, *, mapped: bool = False) -> NDArray[np.generic]:
    """Reads an `.npy` file without running code from it.

    Args:
        path: The file.
        mapped: Whether the array stays on disk until an element is asked for.

    Returns:
        The array.

    Raises:
        DataError: If the file cannot be read, or is no `.npy` file.
    """
    with reading(path, "an .npy file without Python objects"):
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)  # a claimed size is checked
        return array if mapped else np.array(array)


def open_arrays(path: Path) -> Mapping[str, NDArray[np.generic]]:
    """Opens an `.npz` file without running code from it; an array is read when it is asked for.

    Args:
        path: The file.

    Returns:
        Name -> array.

    Raises:
        DataError: If the file cannot be read, or is no `.npz` file.
    """
    with reading(path, "an .npz file without Python objects"):
        with zipfile.ZipFile(path) as packed:
            claimed = sum(each.file_size for each in packed.infolist())
        if claimed > 1100 * path.stat().st_size:  # more than its compression can reach
            raise DataError(f"Expected {path} to be an .npz file, got one that claims {claimed:.3g} bytes of arrays")
        arrays: Mapping[str, NDArray[np.generic]] = np.load(path, allow_pickle=False)
        return arrays


def plausible_count(count: int, path: Path, what: str = "images") -> None:
    """Requires that a file claims no more images than it has bytes, before a list of them takes all memory.

    Args:
        count: How many it claims.
        path: The file.
        what: What it claims, for the message.

    Raises:
        DataError: If it claims more.
    """
    if count > path.stat().st_size:
        raise DataError(
            f"Expected {path} to hold {what}, got a file of {path.stat().st_size} bytes that claims {count}"
        )
