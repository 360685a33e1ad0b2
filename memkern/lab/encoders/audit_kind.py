"""`memkern:NAME`: encoders of the lab for audits, which find them through the entry point in pyproject.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from memkern.audit.encoders.kind import EncoderKind, unknown_name
from memkern.lab.encoders.build import NAMES, VITS, build
from memkern.lab.encoders.resnet9 import ResNet9


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    if name not in NAMES:
        raise unknown_name("memkern", name, NAMES)
    constructors: dict[str, Callable[..., nn.Module]] = {"resnet9": ResNet9}
    return constructors.get(name, partial(build, name, image_size=32))(**arguments)


def audit_name(name: str, image_size: int) -> str:
    """Writes an encoder of the lab as `memkern audit` takes it.

    Args:
        name: One of `memkern.lab.encoders.build.NAMES`.
        image_size: Edge of an image, pixels.

    Returns:
        ENCODER, "memkern:vit-tiny-4?image_size=32" say.
    """
    return f"memkern:{name}" + (f"?image_size={image_size}" if name in VITS else "")


KIND = EncoderKind(
    name="memkern",
    summary="an encoder of the lab: `memkern:resnet9`, the paper's; `resnet18`, `vit-tiny-4?image_size=32`, …",
    example="memkern:NAME",
    package="",
    build=_build,
    names=lambda: NAMES,
)
