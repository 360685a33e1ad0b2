"""`memkern:NAME`: encoders of the lab for audits, which find them through the entry point in pyproject.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from memkern.audit.encoders.kind import EncoderKind, unknown_name
from memkern.lab.encoders.resnet9 import ResNet9

ENCODERS: Mapping[str, Callable[..., nn.Module]] = {"resnet9": ResNet9}


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    if name not in ENCODERS:
        raise unknown_name("memkern", name, list(ENCODERS))
    return ENCODERS[name](**arguments)


KIND = EncoderKind(
    name="memkern",
    summary="`memkern:resnet9`, the ResNet9 of the paper",
    example="memkern:NAME",
    package="",
    build=_build,
)
