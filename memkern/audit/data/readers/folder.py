"""Images in a folder."""

from __future__ import annotations

from pathlib import Path

from memkern.audit.data.reader import Reader
from memkern.audit.data.readers._files import source_of_files
from memkern.audit.data.readers.saved_data_set import is_saved_data_set
from memkern.audit.data.source import Source, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def _takes(path: Path) -> bool:
    return path.is_dir() and not is_saved_data_set(path)


def _open(spec: Spec) -> Source:
    root = spec.path
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"Expected images under {root}, got none with the endings {', '.join(sorted(SUFFIXES))}")
    source = source_of_files(spec.text, [path.relative_to(root).as_posix() for path in files], files)
    tops = [Path(each).parts[0] for each in source.ids if "/" in each]
    if len(tops) == len(source) and len(set(tops)) > 1:
        return with_labels(source, tops, None)
    return source


READER = Reader(
    name="folder",
    summary="images in a folder, nested as you like; the folders right in it are classes",
    example="DIR",
    package="pillow",
    open=_open,
    takes=_takes,
)
