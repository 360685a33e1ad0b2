"""Images that a user names: candidates, members of a training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memkern._util.text import escaped, printable
from memkern.audit.data.files import read_array, read_lines
from memkern.audit.data.listed import PATHS
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
        self._row_of_id: Mapping[str, int] = {name: row for row, name in enumerate(source.ids)}
        self._n_listed = max(source.index, default=-1) + 1

    @cached_property
    def _row_of_position(self) -> Mapping[int, int]:
        return {position: row for row, position in enumerate(self.source.index)}

    def rows(self, names: Sequence[str], what: str) -> list[int]:
        """Finds the rows of images.

        Args:
            names: Ids, as they are or as they are shown; or positions.
            what: What names them, for the message: "--candidates" say.

        Returns:
            The row of each name.

        Raises:
            DataError: If a name is no image's.
        """
        found = [self._row_of_id.get(name, -1) for name in names]
        for place, name in enumerate(names):
            if found[place] < 0:
                found[place] = self._row_of_id.get(escaped(name), self._at(name))
        unknown = [name for name, row in zip(names, found, strict=True) if row < 0]
        if unknown:
            raise DataError(
                f"Expected {what} to name images of {self.source.name}; {len(unknown)} of {len(names)} are none, the "
                f"first: '{printable(unknown[0])}'; ids look like {self.source.ids[0]!r}"
            )
        return found

    def _at(self, name: str) -> int:
        """Row of the image whose position a name is, -1 of none."""
        return self._row_of_position.get(int(name), -1) if name.isdecimal() and len(name) < 20 else -1

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
            raise DataError(f"Expected {what} to be a file or START:STOP, got {option!r}; there is no such file")
        elif path.suffix == ".npy":
            rows = self._of_array(read_array(path), path, what)
        else:
            rows = self._of_text(path, what)
        if not rows:
            raise DataError(f"Expected {what} to name at least one image, got none in {option}")
        return rows

    def _range(self, option: str, start: str, stop: str, what: str) -> list[int]:
        if max(len(start), len(stop)) > 18 or int(stop) > self._n_listed:
            raise DataError(
                f"Expected {what} to be a range of positions within 0:{self._n_listed}, the images of "
                f"{self.source.name}, got {option}"
            )
        return self._positions(np.arange(int(start), int(stop)), what)

    def _positions(self, positions: NDArray[np.generic], what: str) -> list[int]:
        """Rows of positions; those of images that were left out of the list name none."""
        numbers: list[int] = positions.tolist()
        outside = [number for number in numbers if not 0 <= number < self._n_listed]
        if outside:
            raise DataError(
                f"Expected {what} to hold positions from 0 to {self._n_listed - 1}, the images of {self.source.name}, "
                f"got {outside[0]}"
            )
        return [row for row in map(self._row_of_position.get, numbers) if row is not None]

    def _of_array(self, array: NDArray[np.generic], path: Path, what: str) -> list[int]:
        if array.ndim != 1:
            raise DataError(f"Expected {what} to be one row of positions, got shape {list(array.shape)} in {path}")
        if array.dtype == np.bool_:
            if len(array) != self._n_listed:
                raise DataError(
                    f"Expected a mask with one value for each of the {self._n_listed} images of {self.source.name} in "
                    f"{path}, got {len(array)}"
                )
            return self._positions(np.flatnonzero(array), what)
        if array.dtype.kind in "US":
            return self.rows([name.decode() if isinstance(name, bytes) else name for name in array.tolist()], what)
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
        return self._positions(array, what)

    def _of_text(self, path: Path, what: str) -> list[int]:
        names = read_lines(path)
        if names and names[0].lower() in PATHS and names[0] not in self._row_of_id:
            names = names[1:]  # a head
        if path.suffix == ".csv":
            names = [name if self._knows(name) else next(csv.reader([name]))[0].strip() for name in names]
            names = names[1:] if names and names[0].lower() in PATHS and names[0] not in self._row_of_id else names
        for name in names:
            row, position = self._row_of_id.get(name), self._at(name)
            if row is not None and position not in (-1, row):
                raise DataError(
                    f"Expected {what} to name images one way, got {name!r} in {path}: the id of one image and the "
                    f"position of another; name ids in a file of --groups, or positions as START:STOP or .npy"
                )
        return self.rows(names, what)

    def _knows(self, name: str) -> bool:
        return name in self._row_of_id or escaped(name) in self._row_of_id
