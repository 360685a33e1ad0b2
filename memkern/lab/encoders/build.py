"""Encoders by name."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from memkern._util.text import did_you_mean
from memkern.errors import ArgumentValueError
from memkern.lab.encoders.resnet9 import NARROW, ResNet9

RESNETS = tuple(f"resnet{depth}{stem}" for depth in (18, 34, 50) for stem in ("", "-cifar"))
"""Torchvision's; `-cifar` is the stem for 32 pixels."""

VITS = tuple(f"vit-{size}-{patch}" for size in ("nano", "tiny", "small", "base") for patch in (2, 4, 8, 16))
"""Transformers by size and patch; they are built for one size of image."""

NAMES = ("resnet9", "resnet9-narrow", *RESNETS, *VITS)
"""Names of the encoders."""


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
    if name == "resnet9":
        return ResNet9()
    if name == "resnet9-narrow":
        return ResNet9(width=NARROW)
    if name in RESNETS:
        from memkern.lab.encoders.resnets import ResNet

        base, _, stem = name.partition("-")
        return ResNet(base, cifar=stem == "cifar")
    if name in VITS:
        from memkern.lab.encoders.vit import ViT

        _, size, patch = name.split("-")
        return ViT(size, int(patch), image_size)
    raise ArgumentValueError(
        f"Expected `encoder` to be one of {', '.join(NAMES)}, got {name!r}{did_you_mean(name, NAMES)}"
    )


def described(encoder: nn.Module) -> Encoder:
    """Returns the encoder as an `Encoder`, for the type checker and for readers."""
    assert isinstance(encoder, Encoder)
    return cast(Encoder, encoder)
