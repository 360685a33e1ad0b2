"""The groups of an audit's images: which of them are candidates."""

from __future__ import annotations

from pathlib import Path

from memkern.audit.data.files import read_array, read_lines, whole_numbers
from memkern.audit.data.source import Source
from memkern.errors import DataError


def candidate_rows(source: Source, option: str) -> list[bool]:
    """Finds the candidates: the images that f was trained with and g was not.

    Args:
        source: The images.
        option: "START:STOP", a range of positions; or a `.npy` file of positions; or a text file with one id or
            position a line.

    Returns:
        One flag per image.

    Raises:
        DataError: If an id is unknown, or no image is named.
    """
    start, colon, stop = option.partition(":")
    path = Path(option)
    if colon and start.isdecimal() and stop.isdecimal():
        wanted: list[str] = [str(number) for number in range(int(start), int(stop))]
    elif not path.is_file():
        raise DataError(f"Expected --candidates to be a file or START:STOP, got {option!r}; there is no such file")
    elif path.suffix == ".npy":
        wanted = [str(number) for number in whole_numbers(read_array(path), str(path))]
    else:
        wanted = read_lines(path)
    row_of_id = {name: row for row, name in enumerate(source.ids)}
    row_of_index = {str(position): row for row, position in enumerate(source.index)}
    flags = [False] * len(source)
    unknown = []
    for name in wanted:
        row = row_of_id.get(name, row_of_index.get(name))
        if row is None:
            unknown.append(name)
        else:
            flags[row] = True
    if unknown:
        raise DataError(
            f"Expected --candidates to name images of {source.name}; {len(unknown)} of {len(wanted)} are none, the "
            f"first: {unknown[0]!r}; ids look like {source.ids[0]!r}"
        )
    if not wanted:
        raise DataError(f"Expected --candidates to name at least one image, got none in {option}")
    return flags
