"""Classifier heads: told from the rest of an encoder, and taken off where a checkpoint has none."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

HEADS = frozenset({"fc", "head", "heads", "classifier", "head_dist", "last_linear", "linear"})
"""Children of models of torchvision and timm that make class scores of what the rest found."""

MAPS = (nn.Linear, nn.Conv2d, nn.BatchNorm1d)
"""Layers of heads: of one layer or of several, as projectors are."""

LIBRARIES = frozenset({"torchvision", "timm"})
"""Packages whose models are known to run without their head."""


def head_names(encoder: nn.Module) -> frozenset[str]:
    """Lists the tensors of an encoder that a backbone's checkpoint may lack: those of the head of a library's model."""
    if type(encoder).__module__.partition(".")[0] not in LIBRARIES:
        return frozenset()
    return frozenset(name for name in encoder.state_dict() if name.partition(".")[0] in HEADS)


def parts_without_weights(encoder: nn.Module, missing: Iterable[str]) -> tuple[str, ...]:
    """Lists the layers of a head that have no weights: those that map features, not norms, which belong to the rest.

    Args:
        encoder: The encoder.
        missing: Names of the tensors that are missing.

    Returns:
        Names of the modules.
    """
    missing = set(missing)
    return tuple(
        name
        for name, module in encoder.named_modules()
        if name.partition(".")[0] in HEADS
        and isinstance(module, MAPS)
        and {f"{name}.{each}" for each in module.state_dict() if each != "num_batches_tracked"} <= missing
    )


def take_off(encoder: nn.Module, parts: Iterable[str]) -> None:
    """Puts the identity in the place of modules, so that what went into them comes out."""
    for name in parts:
        encoder.set_submodule(name, nn.Identity())
