"""The labels of an audit's images: those that a source brought, or what `--labels` names."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from memkern.audit.data.files import numbers_or_names, read_array, read_text, reading, whole_numbers
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
        raise DataError(f"Expected --labels to be auto, none, folder or a file, got {option!r}; there is no such file")
    if path.suffix == ".npy":
        return with_labels(source, whole_numbers(read_array(path), str(path)), None)
    if path.suffix != ".csv":
        return with_labels(source, numbers_or_names(read_text(path).split()), None)
    with reading(path, "a .csv file"), path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    rows = rows[1:] if rows and [cell.strip().lower() for cell in rows[0][:2]] == ["id", "label"] else rows
    if any(len(row) < 2 for row in rows):
        raise DataError(f"Expected {path} to have the columns id and label, got the row {min(rows, key=len)}")
    given = {row[0].strip(): row[1].strip() for row in rows}
    missing = [name for name in source.ids if name not in given]
    if missing:
        raise DataError(f"Expected a label for every image in {path}; {len(missing)} lack one, first {missing[0]!r}")
    return with_labels(source, numbers_or_names([given[name] for name in source.ids]), None)
