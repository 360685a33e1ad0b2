"""`lightly:NAME`: backbones as lightly's examples build them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from memkern.audit.encoders.kind import EncoderKind
from memkern.audit.encoders.kinds import torchvision


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    return nn.Sequential(*list(torchvision.build(name, arguments).children())[:-1])


KIND = EncoderKind(
    name="lightly",
    summary="torchvision's model without its last layer, as lightly's examples build a backbone",
    example="lightly:NAME",
    package="torchvision",
    build=_build,
    names=torchvision.names,
)
