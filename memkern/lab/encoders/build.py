"""Encoders by name."""

from __future__ import annotations

import re
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from memkern.errors import ArgumentValueError
from memkern.lab.encoders.resnet9 import ResNet9

NAMES = (
    "resnet9",
    *(f"resnet{depth}{stem}" for depth in (18, 34, 50) for stem in ("", "-cifar")),
    "vit-SIZE-PATCH (nano, tiny, small or base; 2, 4, 8 or 16)",
)
"""Names of the encoders; `-cifar` is the stem for 32 pixels."""


@runtime_checkable
class Encoder(Protocol):
    """Encoder of the lab, with the names of the layers that are measured.

    Attributes:
        dim: Length of a representation.
        taps: The layers of the paper, in order of depth, and the modules whose outputs they are.
        unit_taps: The layers whose units are measured.
        output: The module at whose output SSLMem is measured.
    """

    dim: int
    taps: dict[str, str]
    unit_taps: dict[str, str]
    output: str

    def __call__(self, x: Tensor) -> Tensor:
        """Encodes `[N, 3, H, W]` as `[N, dim]`."""
        ...


def build(name: str, *, image_size: int) -> nn.Module:
    """Builds an encoder with random weights.

    Args:
        name: One of `NAMES`.
        image_size: Edge of an image, pixels; only transformers depend on it.

    Returns:
        The encoder, an `Encoder`.

    Raises:
        ArgumentValueError: If there is no such encoder; the message lists them.
        ImportError: If torchvision or timm is missing; the message names the extra to install.
    """
    vit = re.fullmatch(r"vit-(nano|tiny|small|base)-(2|4|8|16)", name)
    if name == "resnet9":
        return ResNet9()
    if name in NAMES:
        from memkern.lab.encoders.resnets import ResNet

        base, _, stem = name.partition("-")
        return ResNet(base, cifar=stem == "cifar")
    if vit:
        from memkern.lab.encoders.vit import ViT

        return ViT(vit[1], int(vit[2]), image_size)
    raise ArgumentValueError(f"Expected `encoder` to be one of {', '.join(NAMES)}, got {name!r}")


def described(encoder: nn.Module) -> Encoder:
    """Returns the encoder as an `Encoder`, for the type checker and for readers."""
    assert isinstance(encoder, Encoder)
    return cast(Encoder, encoder)
