"""The labels of an audit's images: those that a source brought, or what `--labels` names."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from memkern._util.text import did_you_mean, near_files
from memkern.audit.data.classes import label_values, numbers_or_names
from memkern.audit.data.files import (
    between_cells,
    lines_of,
    read_array,
    read_text,
    reading,
    refuse_other_encodings,
    what_is,
)
from memkern.audit.data.source import Source, with_labels
from memkern.errors import DataError


def apply_labels(source: Source, option: str) -> Source:
    """Puts in the labels that `--labels` asks for.

    Args:
        source: The images, with the labels it brought, if any.
        option: "auto": those it brought. "none". "folder": the name of the folder of each image. A file: `.csv` with
            the columns id and label, `.npy` or `.txt` with one label per image in data order.

    Returns:
        The source with these labels, or without any.

    Raises:
        DataError: If labels are asked for that are not there.
    """
    if option == "auto":
        return source
    if option == "none":
        return replace(source, labels=None, classes=None)
    if option == "folder":
        folders = [name.rpartition("/")[0].rpartition("/")[2] for name in source.ids]
        if source.paths is None or len(set(folders)) < 2:
            raise DataError(f"Expected --labels folder with images in two or more folders, got {source.name}")
        return with_labels(source, folders, None)
    path = Path(option)
    if not path.is_file():
        near = "" if near_files(path) else did_you_mean(option, ("auto", "none", "folder"))
        raise DataError(f"Expected --labels to be auto, none, folder or a file, got {option!r}; {what_is(path)}{near}")
    if path.suffix == ".npy":
        return with_labels(source, label_values(read_array(path), str(path)), None)
    text = read_text(path)
    refuse_other_encodings(text, path)
    if path.suffix != ".csv":
        one_a_line = [line.strip() for line in lines_of(text)]
        by_line = len(one_a_line) == len(source)  # an empty line is no label then, and a name may hold spaces
        return with_labels(source, numbers_or_names(one_a_line if by_line else text.split()), None)
    return with_labels(source, numbers_or_names(_of_table(source, path, text)), None)


def _of_table(source: Source, path: Path, text: str) -> list[str]:
    """Label of each image from a table with the columns id and label."""
    with reading(path, "a .csv file"):
        lines = lines_of(text)
        table = csv.reader(lines, delimiter=between_cells(lines[0]))
        rows = [[cell.strip() for cell in row] for row in table if row]
    at = (0, 1)
    if rows and {"id", "label"} <= {cell.lower() for cell in rows[0]}:
        head = [cell.lower() for cell in rows.pop(0)]
        at = head.index("id"), head.index("label")
    if any(len(row) <= max(at) for row in rows):
        raise DataError(f"Expected {path} to have the columns id and label, got the row {min(rows, key=len)}")
    given: dict[str, str] = {}
    for row in rows:
        name, label = row[at[0]], row[at[1]]
        if given.setdefault(name, label) != label:
            raise DataError(
                f"Expected one label for each image in {path}, got {given[name]!r} and {label!r} for {name!r}: correct "
                "one of the two lines"
            )
    missing = [name for name in source.ids if name not in given]
    if missing:
        raise DataError(f"Expected a label for every image in {path}; {len(missing)} lack one, first {missing[0]!r}")
    return [given[name] for name in source.ids]
