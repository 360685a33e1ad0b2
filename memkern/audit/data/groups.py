"""Images that a user names: candidates, members of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memkern.audit.data.files import read_array, read_lines, whole_numbers
from memkern.audit.data.source import Source
from memkern.errors import DataError


class ImageNames:
    """The rows of images by what a user may call them.

    Args:
        source: The images. An id stands for its image, and so does the position in the whole list, unless it is the id
            of another image.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._row: Mapping[str, int] = {str(position): row for row, position in enumerate(source.index)} | {
            name: row for row, name in enumerate(source.ids)
        }

    def rows(self, names: Sequence[str], what: str) -> list[int]:
        """Finds the rows of images.

        Args:
            names: Ids or positions.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The row of each name.

        Raises:
            DataError: If a name is no image's.
        """
        found = [self._row.get(name, -1) for name in names]
        unknown = [name for name, row in zip(names, found, strict=True) if row < 0]
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
        rows = self.rows(wanted, what)
        if not rows:
            raise DataError(f"Expected {what} to name at least one image, got none in {option}")
        return rows
