"""Lists of image files as other tools write them: a path a line, or a path and a label with a tab, comma or space."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memkern._util.text import first_of, printable
from memkern.audit.data.files import lines_of, read_text
from memkern.errors import DataError

PATHS = frozenset(
    (
        *("path", "file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_id", "image_path", "img", "img_path", "id", "name"),
    )
)
"""Heads of a column of paths, in small letters."""

LABELS = frozenset(["label", "labels", "class", "classes", "target", "category", "class_name", "label_name", "y"])
"""Heads of a column of labels, in small letters."""

SEEN = 50
"""Lines by which the form of a list is told."""

Cells = Callable[[str], list[str]]
"""From a line to its cells."""


@dataclass(frozen=True)
class ListedFiles:
    """Files of a list.

    Attributes:
        names: The files as the list names them.
        labels: Label of each, text; `None` without labels.
        lines: Number of the line of each.
    """

    names: list[str]
    labels: list[str] | None
    lines: list[int]


def read_list(path: Path) -> ListedFiles:
    """Reads a list of image files.

    The form is the first of these in which the first lines name files that exist: path and label with a tab or comma
    between (a comma within a path stands in quotes), the whole line a path, path and label with a semicolon or space
    between. A head
    line names the columns, of which there may be more then.

    Args:
        path: The list. Relative paths start from its folder.

    Returns:
        The files; each exists.

    Raises:
        DataError: If the list is empty, or a line names no file or lacks a cell; the message has the line.
    """
    numbered = [(n, line.strip()) for n, line in enumerate(lines_of(read_text(path)), 1) if line.strip()]
    if not numbered:
        raise DataError(f"Expected one image file a line in {path}, got none")
    head = _head(numbered[0][1])
    if head is not None:
        return _with_head(path, head, numbered[1:])
    first = [line for _, line in numbered[:SEEN]]
    forms: tuple[Cells, ...] = (_tab, _comma, _whole, _semicolon, _space)
    exist = [sum(_is_file(path, form(line)[0]) for line in first) for form in forms]
    best = exist.index(max(exist)) if any(exist) else forms.index(_whole)
    form = forms[best]
    rows = [form(line) for _, line in numbered]
    n_cells = max(len(row) for row in rows)
    if n_cells > 2:
        widest = next(n for (n, _), row in zip(numbered, rows, strict=True) if len(row) > 2)
        raise DataError(
            f"Expected a path and a label a line in {path}, got {n_cells} cells in line {widest}: name the columns in "
            "a head line, path,label say"
        )
    labels = [row[1] if len(row) > 1 else "" for row in rows] if n_cells == 2 else None
    return _existing(path, ListedFiles([row[0] for row in rows], labels, [number for number, _ in numbered]))


def _head(line: str) -> tuple[list[str], str] | None:
    """Cells of a head line in small letters, and what stands between them; `None` of any other line."""
    for between in ("\t", ",", ";"):
        cells = [cell.strip().lower() for cell in next(csv.reader([line], delimiter=between))]
        if PATHS & set(cells):
            return cells, between
    return None


def _with_head(path: Path, head: tuple[list[str], str], numbered: Sequence[tuple[int, str]]) -> ListedFiles:
    cells, between = head
    rows = list(csv.reader([line for _, line in numbered], delimiter=between))
    lines = [number for number, _ in numbered]
    for number, row in zip(lines, rows, strict=True):
        if len(row) != len(cells):
            raise DataError(f"Expected {len(cells)} cells in line {number} of {path}, as in its head, got {len(row)}")
    if not rows:
        raise DataError(f"Expected one image file a line in {path}, got a head alone")
    of_paths = [place for place, cell in enumerate(cells) if cell in PATHS]
    found = [sum(_is_file(path, row[place].strip()) for row in rows[:SEEN]) for place in of_paths]
    at = of_paths[found.index(max(found))]
    label_at = next((place for place, cell in enumerate(cells) if cell in LABELS), None)
    labels = None if label_at is None else [row[label_at].strip() for row in rows]
    return _existing(path, ListedFiles([row[at].strip() for row in rows], labels, lines))


def _existing(path: Path, listed: ListedFiles) -> ListedFiles:
    missing = [
        (name, number) for name, number in zip(listed.names, listed.lines, strict=True) if not _is_file(path, name)
    ]
    if missing:
        where = first_of([number for _, number in missing])
        raise DataError(
            f"Expected the files of {path} to exist; {len(missing)} do not (line {where}), the first: "
            f"'{printable(missing[0][0])}'"
        )
    return listed


def _is_file(path: Path, name: str) -> bool:
    try:
        return bool(name) and (path.parent / name).is_file()
    except (OSError, ValueError):  # too long for a name, or holds a zero byte
        return False


def _tab(line: str) -> list[str]:
    left, _, label = line.rpartition("\t")
    return [left.strip(), label.strip()] if left else [line]


def _comma(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def _semicolon(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=";", skipinitialspace=True))]


def _whole(line: str) -> list[str]:
    return [line[1:-1] if len(line) > 1 and line[0] == line[-1] == '"' else line]


def _space(line: str) -> list[str]:
    return [cell.strip('"') for cell in line.rsplit(None, 1)]
