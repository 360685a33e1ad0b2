"""`timm:NAME`: the models of timm."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from memkern._util.optional_imports import require
from memkern.audit.encoders.kind import EncoderKind, unknown_name


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    timm = require("timm", "timm", extra="")
    if not timm.is_model(name):
        raise unknown_name("timm", name, _names())
    encoder: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": 0, **arguments})
    return encoder


def _names() -> list[str]:
    found: list[str] = require("timm", "timm", extra="").list_models()
    return found


KIND = EncoderKind(
    name="timm",
    summary="timm's model, without a classifier unless `num_classes` is given",
    example="timm:NAME",
    package="timm",
    build=_build,
    names=_names,
)
