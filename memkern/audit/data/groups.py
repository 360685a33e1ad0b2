"""Images that a user names: candidates, members of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from memkern.audit.data.files import read_array, read_lines, whole_numbers
from memkern.audit.data.source import Source
from memkern.errors import DataError
from memkern.families.cells import Ints


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
        if not isinstance(source.index, range):
            self._row_of_position = {position: row for row, position in enumerate(source.index)}

    def _of_ids(self, names: Sequence[str]) -> Ints:
        """The row of each id; -1 for what is none."""
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
        if not name.isascii() or not name.isdecimal() or str(int(name)) != name:
            return -1
        if self._row_of_position is not None:
            return self._row_of_position.get(int(name), -1)
        return int(name) if int(name) < len(self.source) else -1

    def rows(self, names: Sequence[str], what: str) -> Ints:
        """Finds the rows of images.

        Args:
            names: Ids or positions.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The row of each name, `[n]` int64.

        Raises:
            DataError: If a name is no image's.
        """
        found = self._of_ids(names)
        for at in np.flatnonzero(found < 0).tolist():
            found[at] = self._of_position(names[at])
        unknown = [names[at] for at in np.flatnonzero(found < 0).tolist()]
        if unknown:
            raise DataError(
                f"Expected {what} to name images of {self.source.name}; {len(unknown)} of {len(names)} are none, the "
                f"first: {unknown[0]!r}; ids look like {self.source.ids[0]!r}"
            )
        return found

    def listed(self, option: str, what: str) -> list[int]:
        """Finds the rows that a file or a range names.

        Args:
            option: "START:STOP", a range of positions; or a `.npy` file of positions; or a text file with one id or
                position a line.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The rows, in the order in which they are named.

        Raises:
            DataError: If there is no such file, an id is unknown, or no image is named.
        """
        start, colon, stop = option.partition(":")
        path = Path(option)
        if colon and start.isdecimal() and stop.isdecimal():
            wanted = [str(number) for number in range(int(start), int(stop))]
        elif not path.is_file():
            raise DataError(f"Expected {what} to be a file or START:STOP, got {option!r}; there is no such file")
        elif path.suffix == ".npy":
            wanted = [str(number) for number in whole_numbers(read_array(path), str(path))]
        else:
            wanted = read_lines(path)
        rows: list[int] = self.rows(wanted, what).tolist()
        if not rows:
            raise DataError(f"Expected {what} to name at least one image, got none in {option}")
        return rows
