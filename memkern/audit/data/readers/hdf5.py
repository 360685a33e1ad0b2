"""Images in an HDF5 file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from memkern._util.optional_imports import require
from memkern.audit.data.classes import label_values
from memkern.audit.data.files import plausible_count, reading
from memkern.audit.data.reader import Reader, has_suffix, image_key, label_key, pixels_of, with_pixels
from memkern.audit.data.source import Source, file_digest, from_arrays, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

if TYPE_CHECKING:
    import h5py


def _open(spec: Spec) -> Source:
    h5py = require("h5py", "h5py", extra="")
    path = spec.path
    with reading(path, "an HDF5 file"):
        file = h5py.File(path, "r")
    keys: list[str] = []
    file.visititems(lambda key, value: keys.append(key) if isinstance(value, h5py.Dataset) else None)
    images, labels_at = _own(file, image_key(keys, spec), spec), label_key(keys, spec)
    source = replace(from_arrays(images, name=spec.text, pixels=pixels_of(spec)), digest=file_digest(path))
    source = with_pixels(source, spec, exif=False)
    if labels_at is None:
        return source
    return with_labels(source, label_values(_own(file, labels_at, spec)[()], spec.text), None)


def _own(file: h5py.File, key: str, spec: Spec) -> h5py.Dataset:
    """A data set whose bytes lie in the file itself: a foreign file must not choose other files to read."""
    found = file[key]
    if found.is_virtual or found.external:
        kind = "a virtual data set" if found.is_virtual else "external storage"
        raise DataError(
            f"Expected {key!r} of {spec.path} to lie in the file itself, got {kind}, which reads other files: copy it "
            "into one file"
        )
    if found.shape:
        plausible_count(found.shape[0], spec.path, f"{key!r}")
    return found


READER = Reader(
    name="HDF5",
    summary="an `.h5` or `.hdf5` file with data sets of images and of labels",
    example="FILE.h5",
    package="h5py",
    open=_open,
    takes=has_suffix(".h5", ".hdf5"),
)
