"""Images in a parquet file, as bytes of image files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from memkern._util.optional_imports import require
from memkern.audit.data.files import reading
from memkern.audit.data.reader import Reader, decoded, has_suffix, image_key, label_key
from memkern.audit.data.source import Source, file_digest, with_labels
from memkern.audit.encoders.spec import Spec

if TYPE_CHECKING:
    from pyarrow import ChunkedArray
    from torch import Tensor


def _open(spec: Spec) -> Source:
    parquet = require("pyarrow.parquet", "pyarrow")
    path = spec.path
    with reading(path, "a parquet file"):
        file = parquet.ParquetFile(path)
    keys: list[str] = file.schema_arrow.names
    images_at, labels_at = image_key(keys, spec), label_key(keys, spec)
    starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
    groups: OrderedDict[int, ChunkedArray] = OrderedDict()
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        group = int(np.searchsorted(starts, position, side="right")) - 1
        with lock:
            if group not in groups:
                groups[group] = file.read_row_group(group, columns=[images_at]).column(0)
                while len(groups) > 2:  # neighbors only: memory does not grow with the file
                    groups.popitem(last=False)
            value = groups[group][position - int(starts[group])].as_py()
        return decoded(value["bytes"] if isinstance(value, dict) else value)

    count = int(starts[-1])
    source = Source(spec.text, tuple(str(i) for i in range(count)), load, file_digest(path))
    if labels_at is None:
        return source
    return with_labels(source, file.read(columns=[labels_at]).column(0).to_pylist(), None)


READER = Reader(
    name="parquet",
    summary="a `.parquet` file with a column of images as bytes, and one of labels",
    example="FILE.parquet",
    package="pyarrow",
    open=_open,
    takes=has_suffix(".parquet"),
)
