"""Images named in a text file."""

from __future__ import annotations

from pathlib import Path

from memkern.audit.data.files import numbers_or_names, read_lines
from memkern.audit.data.reader import Reader, has_suffix
from memkern.audit.data.readers._files import source_of_files
from memkern.audit.data.source import Source, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError


def _open(spec: Spec) -> Source:
    path = spec.path
    lines = read_lines(path)
    if not lines:
        raise DataError(f"Expected one image file a line in {path}, got none")
    columns = [line.rpartition("\t" if "\t" in line else ",") for line in lines]
    labeled = all(left and not Path(label).suffix for left, _, label in columns)
    files = [left if labeled else line for (left, _, _), line in zip(columns, lines, strict=True)]
    # A relative path starts from the list's folder, wherever the command is run.
    paths = [Path(file) if Path(file).is_absolute() else path.parent / file for file in files]
    missing = [file for file, where in zip(files, paths, strict=True) if not where.is_file()]
    if missing:
        raise DataError(f"Expected the files of {path} to exist; {len(missing)} do not, the first: {missing[0]!r}")
    source = source_of_files(spec.text, files, paths)
    if not labeled:
        return source
    label_of = {file: label.strip() for file, (_, _, label) in zip(files, columns, strict=True)}
    return with_labels(source, numbers_or_names([label_of[each] for each in source.ids]), None)


READER = Reader(
    name="list",
    summary="a text file (`.txt`, `.lst`, `.csv`) with one path a line and, after a tab or comma, a label",
    example="FILE.txt",
    package="pillow",
    open=_open,
    takes=has_suffix(".txt", ".lst", ".csv"),
)
