"""Images of a data set that Hugging Face `datasets` saved to disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from memkern._util.files import read_json
from memkern._util.optional_imports import require
from memkern.audit.data.files import reading
from memkern.audit.data.reader import Reader, image_key, label_key, with_pixels
from memkern.audit.data.readers._shards import chosen_split, same_classes
from memkern.audit.data.readers._values import ImageValues
from memkern.audit.data.source import Source, list_digest, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor


def is_saved_data_set(path: Path) -> bool:
    """Returns whether a folder is what `save_to_disk` of `datasets` wrote."""
    return any((path / name).is_file() for name in ("dataset_info.json", "state.json", "dataset_dict.json"))


def _takes(path: Path) -> bool:
    return path.is_dir() and is_saved_data_set(path)


def _splits(spec: Spec) -> list[tuple[str, Path]]:
    """Name and folder of each split; one without a name of a data set that has no splits."""
    path = spec.path
    if not (path / "dataset_dict.json").is_file():
        return [("", path)]
    with reading(path / "dataset_dict.json", "the splits of a data set that `datasets` saved"):
        names = [str(name) for name in read_json(path / "dataset_dict.json")["splits"]]
    return chosen_split(spec, [(name, path / name) for name in names])


def _open(spec: Spec) -> Source:
    datasets = require("datasets", "datasets", extra="")
    splits: list[tuple[str, Dataset]] = []
    for name, path in _splits(spec):
        with reading(path, "a data set that `datasets` saved"):
            splits.append((name, datasets.load_from_disk(str(path))))
    features = splits[0][1].features
    kinds = features.items()
    of_images = next((key for key, kind in kinds if isinstance(kind, datasets.Image)), None)
    images_at = image_key(list(features), spec, of_images)
    for name, data in splits:
        if images_at not in data.features:
            raise DataError(
                f"Expected all splits of {spec.path} to have images under {images_at!r}; {name} has "
                f"{', '.join(data.features)}: audit them one by one, ?split=NAME"
            )
    is_image = isinstance(features[images_at], datasets.Image)
    raw = [data.cast_column(images_at, datasets.Image(decode=False)) if is_image else data for _, data in splits]
    starts = [0]
    for data in raw:
        starts.append(starts[-1] + len(data))
    values, lock = ImageValues.of(spec, spec.path), threading.Lock()

    def load(position: int) -> Tensor:
        split = next(number for number in range(len(raw)) if position < starts[number + 1])
        with lock:  # one Arrow reader
            value = raw[split][position - starts[split]][images_at]
        return values.image(value)

    infos = [each for _, data in splits for each in (json.dumps(getattr(data, "_fingerprint", len(data))), len(data))]
    ids = [f"{name}/{row}" if name else str(row) for name, data in splits for row in range(len(data))]
    source = with_pixels(Source(spec.text, tuple(ids), load, list_digest(infos)), spec)
    every = {key: kind for _, data in reversed(splits) for key, kind in data.features.items()}
    of_classes = next((key for key, kind in every.items() if isinstance(kind, datasets.ClassLabel)), None)
    labels_at = label_key(list(every), spec, of_classes)
    if labels_at is None:
        return source
    labels: list[object] = []
    for _, data in splits:
        labels += data[labels_at] if labels_at in data.features else [None] * len(data)
    names = [(name, getattr(data.features.get(labels_at), "names", None)) for name, data in splits]
    return with_labels(source, labels, same_classes([(name, each and tuple(each)) for name, each in names], spec))


READER = Reader(
    name="saved data set",
    summary="a folder that Hugging Face `datasets` saved to disk; of a `DatasetDict` all splits, or `?split=NAME`",
    example="DIR",
    package="datasets",
    open=_open,
    takes=_takes,
    exif="apply",
)
