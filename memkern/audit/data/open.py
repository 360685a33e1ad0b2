"""Images by name: a folder, a file, or a data set of another package."""

from __future__ import annotations

from memkern._util.registry import records
from memkern._util.text import markdown_table
from memkern.audit.data import readers
from memkern.audit.data.reader import Reader
from memkern.audit.data.source import Source
from memkern.audit.encoders.spec import parse
from memkern.errors import DataError


def image_readers() -> tuple[Reader, ...]:
    """Returns every reader of images by name: the files of `memkern.audit.data.readers`."""
    return records(readers, "READER", Reader)


def data_examples() -> str:
    """Returns how data are written, one example of each kind with its name, separated by commas."""
    return ", ".join(f"{reader.example} ({reader.name})" for reader in image_readers())


def reader_table() -> str:
    """Returns the readers as a markdown table, for docs/audit.md."""
    rows = [(f"`{reader.example}`", reader.name, reader.summary, reader.package) for reader in image_readers()]
    return markdown_table(("DATA", "kind", "reads", "needs"), rows)


def open_source(text: str) -> Source:
    """Opens images by name.

    Args:
        text: A path or `prefix:NAME`, with `?key=value&…` for the reader: `?images=KEY&labels=KEY` says where images
            and labels are in a file that has several; `image_readers` has the kinds.

    Returns:
        The images.

    Raises:
        DataError: If there is nothing of that name, or nothing that a reader takes.
        MissingPackageError: If a package is missing.
    """
    of_prefix = {reader.prefix: reader for reader in image_readers() if reader.prefix}
    spec = parse(text, tuple(of_prefix))
    if spec.prefix:
        return of_prefix[spec.prefix].open(spec)
    if not spec.path.exists():
        raise DataError(f"Expected --data to be one of {data_examples()}, got {spec.name!r}; no such file or folder")
    for reader in image_readers():
        if reader.takes(spec.path):
            return reader.open(spec)
    raise DataError(f"Expected --data to be one of {data_examples()}, got {spec.name!r}, which is of no such kind")
