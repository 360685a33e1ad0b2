"""Swaps layers between models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from memkern.audit.interventions.handles import Surgery
from memkern.audit.interventions.units import WEIGHTED, submodules
from memkern.errors import ArgumentValueError


def replace_layers(model: nn.Module, donor: nn.Module, layers: Sequence[str], *, parts: str = "weight") -> Surgery:
    """Replaces layers of a model by the same layers of another one.

    Args:
        model: The model, changed in place.
        donor: Another model with submodules of the same names and shapes; is left as it was.
        layers: Names of the submodules.
        parts: "weight": the weights of convolutions and linear layers only, as in the experiments of arXiv 2409.19069
            (biases and norms stay). "all": every parameter and buffer.

    Returns:
        The handle; `restore()` brings the layers back.

    Raises:
        ValueError: If either model lacks a layer, the shapes differ, a layer has nothing to replace, or `parts` is
            unknown.

    Example:
        >>> from torch import nn
        >>> model, donor = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
        >>> replace_layers(model, donor, ["0"], parts="all").changed
        ('0.weight', '0.bias')
    """
    if parts not in ("weight", "all"):
        raise ArgumentValueError(f'Expected `parts` to be "weight" or "all", got {parts!r}')
    mine = submodules(model, layers)
    theirs = submodules(donor, layers, "donor")
    changes: dict[str, tuple[Tensor, Tensor]] = {}  # name -> what is changed, what it is changed to
    for layer in mine:
        ours, other = _tensors(mine[layer], parts), _tensors(theirs[layer], parts)
        shapes = [{key: tuple(value.shape) for key, value in found.items()} for found in (ours, other)]
        if shapes[0] != shapes[1]:
            differ = next(key for key in {**ours, **other} if shapes[0].get(key) != shapes[1].get(key))
            raise ArgumentValueError(
                f"Expected layer {layer!r} to have the same shapes in both models; {differ!r} is "
                f"{shapes[0].get(differ)} in `model` and {shapes[1].get(differ)} in `donor`"
            )
        if not ours:
            raise ArgumentValueError(
                f'Expected layer {layer!r} to hold something to replace with parts="{parts}", got nothing'
            )
        changes.update({f"{layer}.{key}": (ours[key], other[key]) for key in ours})
    saved = [target.detach().clone() for target, _ in changes.values()]
    new = [source.detach().clone() for _, source in changes.values()]  # first: the donor may share memory

    def put(values: list[Tensor]) -> None:
        with torch.no_grad():
            for (target, _), value in zip(changes.values(), values, strict=True):
                target.copy_(value)

    put(new)
    return Surgery(list(changes), lambda: put(saved))


def _tensors(module: nn.Module, parts: str) -> dict[str, Tensor]:
    """Lists the tensors of a layer by their names in it: the weights of its convolutions and linear layers, or all."""
    if parts == "all":
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        f"{name}.weight".lstrip("."): part.weight
        for name, part in module.named_modules()
        if isinstance(part, WEIGHTED) and isinstance(part.weight, Tensor)
    }
