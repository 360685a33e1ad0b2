"""`torchvision:NAME`: the models of torchvision."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from memkern._util.optional_imports import require
from memkern.audit.encoders.kind import EncoderKind, unknown_name


def build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    """Builds a model of torchvision with random weights.

    Args:
        name: Name of the model.
        arguments: Of its constructor.

    Returns:
        The model.

    Raises:
        EncoderError: If torchvision has no model of that name.
        MissingPackageError: If torchvision is not installed.
    """
    known = names()
    if name not in known:
        raise unknown_name("torchvision", name, known)
    models = require("torchvision.models", "torchvision", extra="")
    encoder: nn.Module = models.get_model(name, weights=None, **arguments)
    return encoder


def names() -> list[str]:
    """Lists the models of torchvision."""
    found: list[str] = require("torchvision.models", "torchvision", extra="").list_models()
    return found


KIND = EncoderKind(
    name="torchvision",
    summary="torchvision's model",
    example="torchvision:NAME",
    package="torchvision",
    build=build,
    names=names,
)
