"""Classifier heads: told from the rest of an encoder, and taken off where a checkpoint has none."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

HEADS = frozenset({"fc", "head", "heads", "classifier", "head_dist", "last_linear", "linear"})
"""Children of models of torchvision and timm that make class scores of what the rest found."""

LIBRARIES = frozenset({"torchvision", "timm"})
"""Packages whose models are known to run without their head."""


def head_names(encoder: nn.Module) -> frozenset[str]:
    """Lists the tensors of an encoder that a backbone's checkpoint may lack: those of the head of a library's model."""
    if type(encoder).__module__.partition(".")[0] not in LIBRARIES:
        return frozenset()
    return frozenset(name for name in encoder.state_dict() if name.partition(".")[0] in HEADS)


def parts_without_weights(encoder: nn.Module, missing: Iterable[str]) -> tuple[str, ...]:
    """Lists the outermost modules of a head all of whose tensors are missing.

    Args:
        encoder: The encoder.
        missing: Names of the tensors that are missing.

    Returns:
        Names of the modules.
    """
    missing = set(missing)
    off: list[str] = []
    for name, module in encoder.named_modules():
        own = {f"{name}.{each}" for each in module.state_dict()}
        inside = any(name.startswith(f"{each}.") for each in off)
        if name.partition(".")[0] in HEADS and own and own <= missing and not inside:
            off.append(name)
    return tuple(off)


def take_off(encoder: nn.Module, parts: Iterable[str]) -> None:
    """Puts the identity in the place of modules, so that what went into them comes out."""
    for name in parts:
        encoder.set_submodule(name, nn.Identity())
