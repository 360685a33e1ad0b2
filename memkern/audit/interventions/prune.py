"""Silences units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from memkern.audit.interventions.handles import Surgery
from memkern.audit.interventions.units import UnitRows, submodules, unit_rows
from memkern.audit.taps.modules import unwrapped
from memkern.errors import ArgumentValueError


def prune_units(model: nn.Module, units: Mapping[str, Iterable[int]]) -> Surgery:
    """Silences units: from now on their output is identically 0.

    A unit of a convolution or a linear layer is a row of its weight (and bias); of a norm, an entry of its weight and
    bias. A block (`nn.Sequential`) is pruned at its last convolution or linear layer **and** every norm after it:
    zeroing the convolution alone would leave the norm's constant (arXiv 2409.19069 prunes whole units). When
    convolution and norm are named apart, as in torchvision's ResNets, name both.

    Training the layer afterwards revives its units. A GroupNorm or LayerNorm after the pruned layer normalizes the
    other units without the pruned ones.

    Args:
        model: The model, changed in place.
        units: Name of a submodule -> indices of its units. These are the names under which an audit lists layers.

    Returns:
        The handle; `restore()` brings the units back.

    Raises:
        TypeError: If a layer is of a kind whose units have no weights of their own.
        ValueError: If there is no such layer or unit, or a weight is computed or shared with another layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> x = torch.ones(1, 2)
        >>> with prune_units(model, {"0": [1]}):
        ...     float(model(x)[0, 1].detach())
        0.0
    """
    found: list[tuple[str, UnitRows]] = []  # name of the parameter, its rows
    names = _parameter_names(model)
    for layer, module in submodules(model, units).items():
        for part in unit_rows(layer, module, units[layer]):
            if len(names[part.parameter]) > 1:
                raise ArgumentValueError(
                    f"Expected the {part.key} of layer {layer!r} to belong to one layer, got one parameter with the "
                    f"names {names[part.parameter]}; pruning it would silence units of all of them"
                )
            found.append((names[part.parameter][0], part))
    saved = [part.parameter.detach()[part.rows].clone() for _, part in found]
    with torch.no_grad():
        for _, part in found:
            part.parameter[part.rows] = 0.0

    def undo() -> None:
        with torch.no_grad():
            for (_, part), values in zip(found, saved, strict=True):
                part.parameter[part.rows] = values

    return Surgery([name for name, _ in found], undo)


def _parameter_names(model: nn.Module) -> dict[Tensor, list[str]]:
    """Lists the names of every parameter: several where layers share one."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in unwrapped(model).named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names
