"""`py:FILE.py:FUNCTION`: the data set that a function in the user's own file returns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memkern._util.files import sha256
from memkern.audit.data.dataset import as_dataset, from_dataset
from memkern.audit.data.reader import Reader, pixels_of, wants_labels, with_pixels
from memkern.audit.data.source import Source, list_digest
from memkern.audit.encoders.kinds.py import KIND
from memkern.audit.encoders.spec import Spec

OURS = ("exif", "range", "labels")
"""Arguments that are memkern's, not the function's."""


def _open(spec: Spec) -> Source:
    arguments = {key: value for key, value in spec.arguments.items() if key not in OURS}
    made: object = KIND.build(spec.name, arguments)  # runs the user's own file, as for an encoder
    if isinstance(made, Source):
        return made
    data, wanted = as_dataset(made, spec.text), "auto" if wants_labels(spec) else None
    source = from_dataset(data, labels=wanted, name=spec.text, pixels=pixels_of(spec))
    code = sha256(Path(spec.name.rpartition(":")[0]))
    return with_pixels(replace(source, digest=list_digest([source.digest, code])), spec)


READER = Reader(
    name="py",
    summary="whatever data set of torch or `datasets` your function returns, items by number: pictures, tensors, "
    "arrays, or tuples or dicts with one",
    example="py:FILE.py:FUNCTION",
    package="",
    open=_open,
    prefix="py",
    exif="ignore",
)
