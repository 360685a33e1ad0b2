"""Images in an HDF5 file."""

from __future__ import annotations

from dataclasses import replace

from memkern._util.optional_imports import require
from memkern.audit.data.files import reading, whole_numbers
from memkern.audit.data.reader import Reader, has_suffix, image_key, label_key
from memkern.audit.data.source import Source, file_digest, from_arrays, with_labels
from memkern.audit.encoders.spec import Spec


def _open(spec: Spec) -> Source:
    h5py = require("h5py", "h5py", extra="")
    path = spec.path
    with reading(path, "an HDF5 file"):
        file = h5py.File(path, "r")
    keys: list[str] = []
    file.visititems(lambda key, value: keys.append(key) if isinstance(value, h5py.Dataset) else None)
    images, labels_at = file[image_key(keys, spec)], label_key(keys, spec)
    source = replace(from_arrays(images, name=spec.text), digest=file_digest(path))
    if labels_at is None:
        return source
    return with_labels(source, whole_numbers(file[labels_at][()], spec.text), None)


READER = Reader(
    name="HDF5",
    summary="an `.h5` or `.hdf5` file with data sets of images and of labels",
    example="FILE.h5",
    package="h5py",
    open=_open,
    takes=has_suffix(".h5", ".hdf5"),
)
