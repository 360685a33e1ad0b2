"""Images named in a text file."""

from __future__ import annotations

from memkern.audit.data.classes import WITHOUT, numbers_or_names
from memkern.audit.data.files import reading
from memkern.audit.data.listed import read_list
from memkern.audit.data.reader import Reader, has_suffix, wants_labels
from memkern.audit.data.readers._files import source_of_files
from memkern.audit.data.source import Source, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError


def _open(spec: Spec) -> Source:
    path = spec.path
    with reading(path, "a list of image files"):
        listed = read_list(path)
    # A relative path starts from the list's folder, wherever the command is run.
    source = source_of_files(spec, listed.names, [str(path.parent / name) for name in listed.names])
    if listed.labels is None or not wants_labels(spec):
        return source
    files = source.paths or ()
    first = {str(path.parent / name): place for place, name in reversed(list(enumerate(listed.names)))}
    if source.repeated:
        _refuse_two_labels(spec, listed.names, listed.labels, listed.lines)
    return with_labels(source, numbers_or_names([listed.labels[first[file]] for file in files]), None)


def _refuse_two_labels(spec: Spec, names: list[str], labels: list[str], lines: list[int]) -> None:
    """Requires one label for each file that a list names more than once, under whatever path."""
    label_of: dict[str, tuple[str, int]] = {}
    for name, label, line in zip(names, labels, lines, strict=True):
        key = str((spec.path.parent / name).resolve())
        before, at = label_of.setdefault(key, (label, line))
        if before != label:
            raise DataError(
                f"Expected one label for each image of {spec.path}, got {before!r} in line {at} and {label!r} in line "
                f"{line} for {name!r}; {WITHOUT}"
            )


READER = Reader(
    name="list",
    summary="a text file (`.txt`, `.lst`, `.csv`) with one path a line and, after a tab, comma or space, a label; or "
    "with a head line that names the columns",
    example="FILE.txt",
    package="pillow",
    open=_open,
    takes=has_suffix(".txt", ".lst", ".csv"),
    exif="ignore",
)
