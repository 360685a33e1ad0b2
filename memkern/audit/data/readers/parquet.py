"""Images in parquet files, as bytes of image files or as their paths."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memkern._util.optional_imports import require
from memkern.audit.data.files import plausible_count, reading
from memkern.audit.data.reader import Reader, has_suffix, image_key, label_key, with_pixels
from memkern.audit.data.readers._shards import folder_holds, same_classes, shards
from memkern.audit.data.readers._values import ImageValues, features_of
from memkern.audit.data.readers.saved_data_set import is_saved_data_set
from memkern.audit.data.source import Source, file_digest, list_digest, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

if TYPE_CHECKING:
    from pyarrow import ChunkedArray
    from pyarrow.parquet import ParquetFile
    from torch import Tensor

_is_file = has_suffix(".parquet")


def _takes(path: Path) -> bool:
    return _is_file(path) or (path.is_dir() and not is_saved_data_set(path) and folder_holds(".parquet", path))


class _Column:
    """Column of images of several files, read by row group; two groups stay in memory."""

    def __init__(self, files: list[tuple[Path, ParquetFile]], key: str, spec: Spec) -> None:
        self._groups = [(file, number) for _, file in files for number in range(file.num_row_groups)]
        lengths = [file.metadata.row_group(number).num_rows for file, number in self._groups]
        self._starts = np.cumsum([0, *lengths])
        folder = spec.path if spec.path.is_dir() else files[0][0].parent
        self._values = [
            ImageValues.of(spec, folder if folder in path.parents else path.parent)
            for path, file in files
            for _ in range(file.num_row_groups)
        ]
        self._key, self._lock = key, threading.Lock()
        self._held: OrderedDict[int, ChunkedArray] = OrderedDict()

    def image(self, position: int) -> Tensor:
        """Reads the image of a row."""
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        with self._lock:
            if group not in self._held:
                file, number = self._groups[group]
                self._held[group] = file.read_row_group(number, columns=[self._key]).column(0)
                while len(self._held) > 2:  # neighbors only: memory does not grow with the file
                    self._held.popitem(last=False)
            value = self._held[group][position - int(self._starts[group])].as_py()
        return self._values[group].image(value)


def _open(spec: Spec) -> Source:
    named = shards(spec)
    files = [(path, _opened(path)) for _, path in named]
    keys: list[str] = files[0][1].schema_arrow.names
    features = features_of(files[0][1].schema_arrow.metadata)
    images_at, labels_at = image_key(keys, spec, features.image), label_key(keys, spec, features.label)
    for path, file in files[1:]:
        if not {images_at, *([labels_at] if labels_at else [])} <= set(file.schema_arrow.names):
            raise DataError(f"Expected {path} to have the columns of {files[0][0]}, got {file.schema_arrow.names}")
    column = _Column(files, images_at, spec)
    ids: list[str] = []
    next_of: dict[str, int] = {}
    for (split, _), (_, file) in zip(named, files, strict=True):
        start = next_of.get(split, 0)
        next_of[split] = start + file.metadata.num_rows
        ids += [f"{split}/{row}" if split else str(row) for row in range(start, next_of[split])]
    digests = [file_digest(path) for path, _ in files]
    digest = digests[0] if len(digests) == 1 else list_digest(digests)
    source = with_pixels(Source(spec.text, tuple(ids), column.image, digest), spec)
    if labels_at is None:
        return source
    labels = [value for _, file in files for value in file.read(columns=[labels_at]).column(0).to_pylist()]
    classes = [(str(path), features_of(file.schema_arrow.metadata).classes.get(labels_at)) for path, file in files]
    return with_labels(source, labels, same_classes(classes, spec))


def _opened(path: Path) -> ParquetFile:
    parquet = require("pyarrow.parquet", "pyarrow")
    with reading(path, "a parquet file"):
        file: ParquetFile = parquet.ParquetFile(path)
    plausible_count(file.metadata.num_rows, path)
    return file


READER = Reader(
    name="parquet",
    summary="a `.parquet` file, a folder of them as the Hugging Face hub serves them, or a pattern: a column of images "
    "as bytes or paths, and one of labels; `?split=NAME` for one split",
    example="FILE.parquet",
    package="pyarrow",
    open=_open,
    takes=_takes,
    exif="apply",
    many=True,
)
