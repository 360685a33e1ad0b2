"""`torchvision:NAME?root=DIR`: data sets of torchvision."""

from __future__ import annotations

import inspect
import threading

import numpy as np
import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.audit.data.files import whole_numbers
from memkern.audit.data.reader import Reader
from memkern.audit.data.source import Source, list_digest, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError


def _open(spec: Spec) -> Source:
    module = require("torchvision.datasets", "torchvision", extra="")
    name = spec.name
    if not inspect.isclass(getattr(module, name, None)):
        raise DataError(f"Expected a data set of torchvision.datasets, got {name!r}")
    try:
        data = getattr(module, name)(**spec.arguments)  # none of them downloads unless asked to
    except Exception as error:  # each data set raises kinds of its own
        raise DataError(f"Expected torchvision's {name} at hand, got: {' '.join(str(error).split())[:300]}") from error
    lock = threading.Lock()

    def load(position: int) -> Tensor:
        with lock:
            picture = data[position][0]
        if isinstance(picture, Tensor):
            return picture
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    shown = {key: value for key, value in spec.arguments.items() if key != "root"}
    digest = list_digest([name, shown, len(data)])
    source = Source(spec.text, tuple(str(i) for i in range(len(data))), load, digest)
    labels = getattr(data, "targets", getattr(data, "labels", None))
    if labels is None or len(labels) != len(data):
        return source
    return with_labels(source, whole_numbers(labels, spec.text), getattr(data, "classes", None))


READER = Reader(
    name="torchvision",
    summary="a data set of torchvision that is at hand; the arguments are its constructor's, `train=True` say",
    example="torchvision:NAME?root=DIR",
    package="torchvision",
    open=_open,
    prefix="torchvision",
)
