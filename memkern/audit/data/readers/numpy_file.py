"""Images in a file of numpy."""

from __future__ import annotations

from dataclasses import replace

from memkern.audit.data.classes import label_values
from memkern.audit.data.files import open_arrays, read_array, reading
from memkern.audit.data.reader import Reader, has_suffix, image_key, label_key, pixels_of, with_pixels
from memkern.audit.data.source import Source, file_digest, from_arrays, with_labels
from memkern.audit.encoders.spec import Spec


def _open(spec: Spec) -> Source:
    path = spec.path
    labels = None
    if path.suffix == ".npy":
        images = read_array(path, mapped=True)
    else:
        arrays = open_arrays(path)
        images_at, labels_at = image_key(list(arrays), spec), label_key(list(arrays), spec)
        with reading(path, "an .npz file without Python objects"):
            images, labels = arrays[images_at], arrays[labels_at] if labels_at else None
    source = from_arrays(images, name=spec.text, pixels=pixels_of(spec))
    source = with_pixels(replace(source, digest=file_digest(path)), spec, exif=False)
    return source if labels is None else with_labels(source, label_values(labels, spec.text), None)


READER = Reader(
    name="numpy",
    summary="an `.npy` file of images, or an `.npz` file of images and labels",
    example="FILE.npz",
    package="",
    open=_open,
    takes=has_suffix(".npy", ".npz"),
)
