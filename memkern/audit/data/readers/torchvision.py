"""`torchvision:NAME?root=DIR`: data sets of torchvision."""

from __future__ import annotations

import inspect
from dataclasses import replace

from memkern._util.optional_imports import require
from memkern._util.text import did_you_mean
from memkern.audit.data.dataset import from_dataset
from memkern.audit.data.reader import Reader, pixels_of, wants_labels, with_pixels
from memkern.audit.data.source import Source, list_digest
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

OURS = ("exif", "range", "labels")
"""Arguments that are memkern's, not the data set's."""


def _open(spec: Spec) -> Source:
    module = require("torchvision.datasets", "torchvision", extra="")
    name = spec.name
    if not inspect.isclass(getattr(module, name, None)):
        near = did_you_mean(name, module.__all__)
        raise DataError(f"Expected a data set of torchvision.datasets, got {name!r}{near}")
    arguments = {key: value for key, value in spec.arguments.items() if key not in OURS}
    try:
        data = getattr(module, name)(**arguments)  # none of them downloads unless asked to
    except Exception as error:  # each data set raises kinds of its own
        raise DataError(f"Expected torchvision's {name} at hand, got: {' '.join(str(error).split())[:300]}") from error
    shown = {key: value for key, value in arguments.items() if key != "root"}
    source = from_dataset(data, labels="auto" if wants_labels(spec) else None, name=spec.text, pixels=pixels_of(spec))
    return with_pixels(replace(source, digest=list_digest([name, shown, len(data)])), spec)


READER = Reader(
    name="torchvision",
    summary="a data set of torchvision that is at hand; the arguments are its constructor's, `train=True` say",
    example="torchvision:NAME?root=DIR",
    package="torchvision",
    open=_open,
    prefix="torchvision",
    exif="ignore",
)
