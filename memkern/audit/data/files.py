"""Files of data: a file that is not what it should be is an error that names it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memkern._util.optional_imports import require
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
    """Reads a text file.

    Args:
        path: The file, in UTF-8.

    Returns:
        The text.

    Raises:
        DataError: If the file cannot be read, or is not text.
    """
    with reading(path, "a text file in UTF-8"):
        return path.read_text(encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file that hold more than spaces, without the spaces around.

    Args:
        path: The file, in UTF-8.

    Returns:
        The lines, in order.

    Raises:
        DataError: If the file cannot be read, or is not text.
    """
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


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
        also = f" and may have {', '.join(optional)}" if optional else ""
        raise DataError(f"Expected {path} to have the columns {', '.join(needed)}{also}, once each, got {names}")
    return dict(columns)


def _csv_columns(path: Path) -> list[tuple[str, list[str]]]:
    same: dict[str, str] = {}  # a cell of few values is kept once: lists have millions of rows
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = filter(None, csv.reader(file))
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
    return [(name, ["" if cell is None else str(cell).strip() for cell in held.to_pylist()]) for name, held in named]


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
        array: NDArray[np.generic] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return array


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
        arrays: Mapping[str, NDArray[np.generic]] = np.load(path, allow_pickle=False)
        return arrays


def whole_numbers(values: object, name: str) -> list[int]:
    """Reads labels or positions as whole numbers.

    Args:
        values: Labels or positions in any nesting.
        name: Where they come from, for the message.

    Returns:
        The numbers, in order.

    Raises:
        DataError: If a value is no whole number.
    """
    try:
        return [int(value) for value in np.ravel(np.asarray(values))]
    except (TypeError, ValueError) as error:
        raise DataError(f"Expected whole numbers in {name}, got: {error}") from error


def numbers_or_names(values: list[str]) -> list[int] | list[str]:
    """Reads labels as whole numbers if they all are, and as names otherwise."""
    return [int(value) for value in values] if all(value.isdecimal() for value in values) else values
