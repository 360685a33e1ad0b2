"""Layers and units of a model: found by their names, with the parameters that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memkern._util.text import did_you_mean
from memkern.errors import ArgumentTypeError, ArgumentValueError

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers whose units are the rows of `weight`."""

WITH_STATISTICS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
"""Norms that can keep running statistics."""

NORMS = (*WITH_STATISTICS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Layers whose units are the entries of `weight` and `bias`."""

KEEP_ZERO = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Tanh, nn.Hardtanh, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
"""Layers that turn a unit that is 0 everywhere into a unit that is 0 everywhere, and mix no units."""


@dataclass(frozen=True)
class UnitRows:
    """Rows of a layer's parameter that belong to some of its units.

    Attributes:
        key: "weight" or "bias".
        parameter: The parameter; its first dimension are the units.
        rows: Which of these are meant, `[R]`, int64, without repeats, on the parameter's device.
    """

    key: str
    parameter: nn.Parameter
    rows: Tensor


def unwrap_compiled(model: nn.Module) -> nn.Module:
    """Returns the model inside a wrapper of `torch.compile`, which shares its parameters, or the model itself."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


def submodules(model: nn.Module, layers: Iterable[str], argument: str = "model") -> dict[str, nn.Module]:
    """Finds submodules by their names.

    Args:
        model: The model, or what `torch.compile` made of it.
        layers: Names of the submodules.
        argument: What the caller's caller calls the model, for the error message.

    Returns:
        Name -> submodule, in the order of the names.

    Raises:
        ValueError: If there is no such submodule, or no name at all.
    """
    if isinstance(layers, str):
        raise ArgumentValueError(f"Expected `layers` to be a list of names, got the string {layers!r}")
    modules = dict(unwrap_compiled(model).named_modules())
    found = {}
    for layer in layers:
        if layer not in modules or layer == "":
            hint = did_you_mean(layer, modules) or "; list them with dict(model.named_modules())"
            raise ArgumentValueError(
                f"Expected `{argument}` to have a submodule {layer!r}, got none of that name{hint}"
            )
        found[layer] = modules[layer]
    if not found:
        raise ArgumentValueError("Expected at least one layer, got none")
    return found


def unit_rows(layer: str, module: nn.Module, units: Iterable[int]) -> list[UnitRows]:
    """Finds the weights and biases that must be 0 for units of a layer's output to be 0.

    A unit of a convolution or a linear layer is a row of its weight and bias; of a norm, an entry of its weight and
    bias; of an `nn.Sequential`, of its last convolution or linear layer and of every norm after it.

    Args:
        layer: Name of the layer, for the error messages.
        module: The layer.
        units: Indices of the units.

    Returns:
        One record for each weight and bias, in forward order.

    Raises:
        TypeError: If the layer is of a kind whose units have no weights of their own, or `units` are no whole numbers.
        ValueError: If there is no such unit, or a weight is computed.
    """
    parts = _unit_modules(layer, module)
    rows = _unit_index(layer, units, len(_own(layer, parts[0], "weight")))
    found = []
    for part in parts:
        for key in ("weight", "bias"):
            if getattr(part, key, None) is not None:
                parameter = _own(layer, part, key)
                found.append(UnitRows(key, parameter, rows.to(parameter.device)))
    return found


def _unit_modules(layer: str, module: nn.Module) -> list[nn.Module]:
    """The modules that must be 0 at a unit for the layer's output to be: the last weighted one, the norms after it."""
    parts: list[nn.Module] = []
    for part in reversed(list(_chain(module))):
        if isinstance(part, (*WEIGHTED, *NORMS)):
            parts.insert(0, part)
        elif not isinstance(part, KEEP_ZERO):
            break  # from here on a unit is no longer a unit of the output
        if isinstance(part, WEIGHTED):
            break
    if not parts:
        raise ArgumentTypeError(
            f"Expected layer {layer!r} to be a convolution, linear layer or norm, or an nn.Sequential that ends with "
            f"one (activations, pools and dropout may follow), got {type(module).__name__}; name the layer before it"
        )
    for part in parts:
        weight = _own(layer, part, "weight")
        if isinstance(part, NORMS) and weight.ndim != 1:
            raise ArgumentTypeError(
                f"Expected the norm of layer {layer!r} to have one weight a unit, got {list(weight.shape)}"
            )
    return parts


def _chain(module: nn.Module) -> Iterable[nn.Module]:
    """Yields the layers of nested `nn.Sequential`s one after another."""
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from _chain(part)
    else:
        yield module


def _own(layer: str, module: nn.Module, key: str) -> nn.Parameter:
    """A parameter of the module itself, not one that a hook computes from others."""
    parameter = module._parameters.get(key)
    if parameter is None:
        kind = type(module).__name__
        why = "is computed (parametrized)" if hasattr(module, "parametrizations") else "has none"
        raise ArgumentValueError(
            f"Expected layer {layer!r} to hold a parameter {key!r} that can be changed, but its {kind} {why}; "
            "for a norm without weights, name the layer before it"
        )
    return parameter


def _unit_index(layer: str, units: Iterable[int], count: int) -> Tensor:
    """Checks indices of units: `[R]`, int64, sorted, without repeats."""
    index = torch.as_tensor(list(units) if not isinstance(units, Tensor) else units)
    if index.numel() == 0:
        index = index.long()
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise ArgumentTypeError(f"Expected the units of layer {layer!r} to be a list of whole numbers, got {units!r}")
    wrong = index[(index < 0) | (index >= count)]
    if len(wrong):
        raise ArgumentValueError(
            f"Expected the units of layer {layer!r} to lie in [0, {count}), got {wrong[:5].tolist()}"
        )
    unique: Tensor = index.long().unique()
    return unique
