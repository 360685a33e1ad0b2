"""Images that a user names: candidates, members of a training."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memkern._util.text import escaped, printable
from memkern.audit.data.files import between_cells, read_array, read_lines, reading, what_is
from memkern.audit.data.listed import LABELS, PATHS
from memkern.audit.data.source import Source
from memkern.errors import DataError
from memkern.families.cells import Ints

_FLAGS = frozenset(("0", "1", "true", "false", "yes", "no", "t", "f", "y", "n"))
"""Words of masks, in small letters."""

_LIKE_A_RANGE = re.compile(r"[-+\s\d.]*:[-+\s\d.:]*")
"""Numbers with colons between, a START:STOP that was not written as one."""

BLOCK = 1 << 16
"""So many names are looked up at once: what that takes beside them does not grow with the list."""


class ImageNames:
    """The rows of images by what a user may call them.

    Args:
        source: The images. An id stands for its image, and so does the position in the whole list, unless it is the id
            of another image.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        # Sorted hashes take a tenth of the memory of a dict of millions of names, and what is found is compared.
        hashes = np.fromiter(map(hash, source.ids), dtype=np.int64, count=len(source))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._row_of_position: Mapping[int, int] | None = None
        self._n_listed = max(source.index, default=-1) + 1
        if not isinstance(source.index, range):
            self._row_of_position = {position: row for row, position in enumerate(source.index)}

    def _of_ids(self, names: Sequence[str]) -> Ints:
        """The row of each id; -1 for what is none."""
        blocks = [self._of_block(names[start : start + BLOCK]) for start in range(0, len(names), BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)

    def _of_block(self, names: Sequence[str]) -> Ints:
        wanted = np.fromiter(map(hash, names), dtype=np.int64, count=len(names))
        place = np.searchsorted(self._hashes, wanted)
        rows = self._order[np.minimum(place, len(self._order) - 1)]
        ids = self.source.ids
        for at, (row, name) in enumerate(zip(rows, names, strict=True)):
            if ids[row] != name:
                first, last = place[at], int(np.searchsorted(self._hashes, wanted[at], side="right"))
                rows[at] = next((each for each in self._order[first:last].tolist() if ids[each] == name), -1)
        return rows

    def _of_position(self, name: str) -> int:
        """The row of a position, as Python writes it; -1 if there is none."""
        if not name.isascii() or not name.isdecimal() or len(name) > 18 or str(int(name)) != name:
            return -1
        if self._row_of_position is not None:
            return self._row_of_position.get(int(name), -1)
        return int(name) if int(name) < len(self.source) else -1

    def rows(self, names: Sequence[str], what: str) -> Ints:
        """Finds the rows of images.

        Args:
            names: Ids, as they are or as they are shown; or positions.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The row of each name, `[n]` int64.

        Raises:
            DataError: If a name is no image's.
        """
        found = self._of_ids(names)
        for at in np.flatnonzero(found < 0).tolist():
            shown = escaped(names[at])
            found[at] = self._of_ids([shown])[0] if shown != names[at] else self._of_position(names[at])
        unknown = [names[at] for at in np.flatnonzero(found < 0).tolist()]
        if unknown:
            raise DataError(
                f"Expected {what} to name images of {self.source.name}; {len(unknown)} of {len(names)} are none, the "
                f"first: '{printable(unknown[0])}'; ids look like {self.source.ids[0]!r}"
            )
        return found

    def listed(self, option: str, what: str) -> list[int]:
        """Finds the rows that a file or a range names.

        Args:
            option: "START:STOP", a range of positions; a `.npy` file of positions, of ids, or a mask of the whole list;
                or a text file with one id or position a line.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The rows, in the order in which they are named.

        Raises:
            DataError: If there is no such file, an id is unknown, a position is outside of the list, an id looks like
                the position of another image, or no image is named.
        """
        start, colon, stop = option.partition(":")
        path = Path(option)
        if colon and start.isdecimal() and stop.isdecimal():
            rows = self._range(option, start, stop, what)
        elif not path.is_file():
            is_range = not path.exists() and _LIKE_A_RANGE.fullmatch(option)
            why = "a range has two whole numbers, 0:100 say" if is_range else what_is(path)
            raise DataError(f"Expected {what} to be a file or START:STOP, got {option!r}; {why}")
        elif path.suffix == ".npy":
            rows = self._of_array(read_array(path), path, what)
        else:
            rows = self._of_text(path, what)
        if not len(rows):
            raise DataError(f"Expected {what} to name at least one image, got none in {option}")
        found: list[int] = rows.tolist()
        return found

    def _range(self, option: str, start: str, stop: str, what: str) -> Ints:
        if max(len(start), len(stop)) > 18 or int(stop) > self._n_listed:
            raise DataError(
                f"Expected {what} to be a range of positions within 0:{self._n_listed}, the images of "
                f"{self.source.name}, got {option}"
            )
        return self._rows_at(np.arange(int(start), int(stop)), what)

    def _rows_at(self, positions: Ints, what: str) -> Ints:
        """Rows of positions; those of images that were left out of the list name none."""
        outside = np.flatnonzero((positions < 0) | (positions >= self._n_listed))
        if len(outside):
            raise DataError(
                f"Expected {what} to hold positions from 0 to {self._n_listed - 1}, the images of {self.source.name}, "
                f"got {positions[outside[0]]}"
            )
        if self._row_of_position is None:
            return positions
        rows = [self._row_of_position.get(position, -1) for position in positions.tolist()]
        return np.array([row for row in rows if row >= 0], dtype=np.int64)

    def _of_array(self, array: NDArray[np.generic], path: Path, what: str) -> Ints:
        if array.ndim != 1:
            raise DataError(f"Expected {what} to be one row of positions, got shape {list(array.shape)} in {path}")
        if array.dtype == np.bool_:
            if len(array) != self._n_listed:
                raise DataError(
                    f"Expected a mask with one value for each of the {self._n_listed} images of {self.source.name} in "
                    f"{path}, got {len(array)}"
                )
            return self._rows_at(np.flatnonzero(array), what)
        if array.dtype.kind in "US":
            texts = [
                name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name for name in array.tolist()
            ]
            return self.rows(texts, what)
        if array.dtype.kind not in "iu":
            raise DataError(
                f"Expected {what} to hold whole numbers (positions), text (ids) or booleans (a mask), got "
                f"{array.dtype} in {path}"
            )
        if len(array) == self._n_listed > 2 and set(np.unique(array).tolist()) <= {0, 1}:
            raise DataError(
                f"Expected {what} to hold positions, got {len(array)} zeros and ones in {path}, which look like a "
                "mask: save it as booleans, mask.astype(bool)"
            )
        return self._rows_at(array.astype(np.int64), what)  # what is too large for it becomes negative

    def _of_text(self, path: Path, what: str) -> Ints:
        names = read_lines(path)
        if path.suffix == ".csv":
            unknown = np.flatnonzero(self._of_ids(names) < 0).tolist()
            with reading(path, "a list of images"):
                lines = read_lines(path, quotes=True)
                cells = [next(csv.reader([lines[at]], delimiter=between_cells(lines[0]))) for at in unknown]
            _refuse_other_columns(cells, path, what)
            for at, row in zip(unknown, cells, strict=True):
                names[at] = row[0].strip()
        if names and names[0].lower() in PATHS and self._of_ids(names[:1])[0] < 0:
            names = names[1:]  # a head
        if len(names) == self._n_listed > 2 and {name.lower() for name in names} <= _FLAGS:
            raise DataError(
                f"Expected {what} to name images, got one of two words for each image in {path}, which look like a "
                "mask: save it as booleans, np.save('mask.npy', mask)"
            )
        rows = self._of_ids(names)
        for at, (name, row) in enumerate(zip(names, rows.tolist(), strict=True)):
            position = self._of_position(name) if row >= 0 else -1
            if position not in (-1, row):
                raise DataError(
                    f"Expected {what} to name images one way, got {name!r} in line {at + 1} of {path}: the id of one "
                    "image and the position of another; name ids in a file of --groups, or positions as START:STOP or "
                    ".npy"
                )
        return self.rows(names, what)


def _refuse_other_columns(rows: Sequence[Sequence[str]], path: Path, what: str) -> None:
    """Requires a table to name images and nothing but their labels: a column that says which are meant is not read."""
    named = {cell.strip().lower() for row in rows for cell in row[1:]}
    head = [cell.strip() for cell in rows[0]] if rows else []
    if head and head[0].lower() in PATHS:
        refused = ", ".join(head) if {cell.lower() for cell in head[1:]} - LABELS else ""
    else:
        refused = "an image and a flag" if named and named <= _FLAGS else ""
    if refused:
        raise DataError(
            f"Expected {what} to list the images that are meant, got {refused} in {path}: keep their rows, and of the "
            "columns the one of images"
        )
