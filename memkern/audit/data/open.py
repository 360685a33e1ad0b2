"""Images by name: a folder, a file, or a data set of another package."""

from __future__ import annotations

from dataclasses import replace

from memkern._util.registry import records
from memkern._util.remote import fetch_with_arguments, is_remote
from memkern._util.text import markdown_table, near_files
from memkern.audit.data import readers
from memkern.audit.data.reader import Reader
from memkern.audit.data.readers._shards import matching
from memkern.audit.data.source import Source
from memkern.audit.encoders.spec import Spec, parse
from memkern.errors import DataError

PACKED = frozenset((".7z", ".bz2", ".gz", ".rar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst"))
"""Endings of archives from which images would have to be unpacked one after the other."""


def image_readers() -> tuple[Reader, ...]:
    """Returns every reader of images by name: the files of `memkern.audit.data.readers`."""
    return records(readers, "READER", Reader)


def data_examples() -> str:
    """Returns how data are written, one example of each kind with its name, separated by commas."""
    return ", ".join(f"{reader.example} ({reader.name})" for reader in image_readers())


def reader_table() -> str:
    """Returns the readers as a markdown table, for docs/audit.md."""
    rows = [
        (f"`{reader.example}`", reader.name, reader.summary, reader.exif or "has none", reader.package)
        for reader in image_readers()
    ]
    return markdown_table(("DATA", "kind", "reads", "EXIF orientation", "needs"), rows)


def open_source(text: str, *, exif: str = "auto", labels: bool = True) -> Source:
    """Opens images by name.

    Args:
        text: A path, a pattern of paths, a remote address or `prefix:NAME`, with `?key=value&…` for the reader:
            `?images=KEY&labels=KEY` says where images and labels are in a file that has several; `image_readers` has
            the kinds.
        exif: "apply" or "ignore" the orientations that EXIF data state; "auto": as the library does that trains on such
            data.
        labels: Whether the labels of the data are asked for.

    Returns:
        The images.

    Raises:
        DataError: If there is nothing of that name, or nothing that a reader takes.
        MissingPackageError: If a package is missing.
    """
    if is_remote(text):
        text = fetch_with_arguments(text)
    of_prefix = {reader.prefix: reader for reader in image_readers() if reader.prefix}
    spec = parse(text, tuple(of_prefix))
    reader = of_prefix[spec.prefix] if spec.prefix else _reader_of(spec)
    if not reader.exif and ("exif" in spec.arguments or exif == "apply"):
        raise DataError(
            f"Expected no EXIF choice for {spec.text}: arrays of numbers ({reader.name}) have no orientation"
        )
    chosen = {"exif": reader.exif if exif == "auto" else exif} if reader.exif else {}
    asked = chosen | dict(spec.arguments) | ({} if labels else {"labels": "none"})
    return reader.open(replace(spec, arguments=asked))


def _reader_of(spec: Spec) -> Reader:
    """The reader that takes a path, or all paths of a pattern."""
    if spec.path.is_file() and spec.path.suffix.lower() in PACKED:
        raise DataError(
            f"Expected --data to be a folder, or a .tar that is not compressed, got the archive {spec.name!r}: unpack "
            "it and name the folder"
        )
    if spec.path.exists():
        for reader in image_readers():
            if reader.takes(spec.path):
                return reader
        raise DataError(f"Expected --data to be one of {data_examples()}, got {spec.name!r}, which is of no such kind")
    files = matching(spec.name)
    for reader in image_readers():
        if files and reader.many and all(map(reader.takes, files)):
            return reader
    if files:
        kinds = ", ".join(reader.name for reader in image_readers() if reader.many)
        raise DataError(f"Expected files of one of these kinds for the pattern {spec.name}: {kinds}; got {files[0]}")
    near = near_files(spec.path)
    raise DataError(f"Expected --data to be one of {data_examples()}, got {spec.name!r}; no such file or folder{near}")
