"""Images of a data set that Hugging Face `datasets` saved to disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from memkern._util.optional_imports import require
from memkern.audit.data.files import reading
from memkern.audit.data.reader import Reader, decoded, label_key
from memkern.audit.data.source import Source, list_digest, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def is_saved_data_set(path: Path) -> bool:
    """Returns whether a folder is what `save_to_disk` of `datasets` wrote."""
    return (path / "dataset_info.json").is_file() or (path / "state.json").is_file()


def _takes(path: Path) -> bool:
    return path.is_dir() and is_saved_data_set(path)


def _open(spec: Spec) -> Source:
    datasets = require("datasets", "datasets", extra="")
    path = spec.path
    with reading(path, "a data set that `datasets` saved"):
        data = datasets.load_from_disk(str(path))
    if not hasattr(data, "features"):
        raise DataError(
            f"Expected one split of a data set in {path}, got {', '.join(data)}: name one, {path}/{next(iter(data))}"
        )
    kinds = data.features.items()
    image_key = next((key for key, kind in kinds if isinstance(kind, datasets.Image)), None)
    image_key = spec.arguments.get("images", image_key)
    if image_key not in data.features:
        raise DataError(
            f"Expected {path} to have a column of images, got {', '.join(data.features)}; name it: ?images=KEY"
        )
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        with lock:  # one Arrow reader
            value = raw[position][image_key]
        return decoded(value["bytes"] if value.get("bytes") is not None else value["path"])

    raw = data.cast_column(image_key, datasets.Image(decode=False))
    info = json.dumps(getattr(data, "_fingerprint", len(data)))
    source = Source(spec.text, tuple(str(i) for i in range(len(data))), load, list_digest([info, len(data)]))
    of_classes = next((key for key, kind in kinds if isinstance(kind, datasets.ClassLabel)), None)
    labels_at = label_key(list(data.features), spec, of_classes)
    if labels_at is None:
        return source
    names = getattr(data.features[labels_at], "names", None)
    return with_labels(source, list(data[labels_at]), names)


READER = Reader(
    name="saved data set",
    summary="a folder that Hugging Face `datasets` saved to disk",
    example="DIR",
    package="datasets",
    open=_open,
    takes=_takes,
)
