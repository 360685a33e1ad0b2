"""Acts on what an audit found: silence units, swap layers between encoders, train some layers or units only.

Each function changes a model in place and returns a handle that can undo or end the change. All checks run before
the first change, so a call that raises leaves the model as it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers whose units are the rows of `weight`."""

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
"""Layers whose units are the entries of `weight` and `bias`."""

KEEP_ZERO = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Tanh, nn.Hardtanh, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
"""Layers that turn a unit that is 0 everywhere into a unit that is 0 everywhere, and mix no units."""


class Surgery:
    """A change of a model that can be undone.

    Use it as a context manager to undo the change at the end of the block, or call `restore`. Undo several changes in
    the reverse order of making them.

    Attributes:
        changed: Names of the parameters and buffers that were changed.
    """

    def __init__(self, changed: Sequence[str], undo: Callable[[], None]) -> None:
        self.changed = tuple(changed)
        self._undo: Callable[[], None] | None = undo

    def restore(self) -> None:
        """Puts back, bit for bit, what the change had overwritten; a second call does nothing."""
        if self._undo is not None:
            self._undo()
        self._undo = None

    def __enter__(self) -> Surgery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


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
    rows: list[tuple[str, Tensor, Tensor]] = []  # name, parameter, which rows
    names = _parameter_names(model)
    for layer, module in _modules(model, units).items():
        parts = _unit_parts(layer, module)
        index = _unit_index(layer, units[layer], len(_own(layer, parts[0], "weight")))
        for part in parts:
            for key in ("weight", "bias"):
                if getattr(part, key, None) is None:
                    continue
                parameter = _own(layer, part, key)
                if len(names[parameter]) > 1:
                    raise ValueError(
                        f"Expected the {key} of layer {layer!r} to belong to one layer, got one parameter with the "
                        f"names {names[parameter]}; pruning it would silence units of all of them"
                    )
                rows.append((names[parameter][0], parameter, index.to(parameter.device)))
    saved = [parameter.detach()[index].clone() for _, parameter, index in rows]
    with torch.no_grad():
        for _, target, index in rows:
            target[index] = 0.0

    def undo() -> None:
        with torch.no_grad():
            for (_, target, index), values in zip(rows, saved, strict=True):
                target[index] = values

    return Surgery([name for name, _, _ in rows], undo)


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
        raise ValueError(f'Expected `parts` to be "weight" or "all", got {parts!r}')
    mine = _modules(model, layers)
    theirs = _modules(donor, layers, "donor")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in mine:
        ours, other = _tensors(mine[layer], parts), _tensors(theirs[layer], parts)
        shapes = [{key: tuple(value.shape) for key, value in found.items()} for found in (ours, other)]
        if shapes[0] != shapes[1]:
            differ = next(key for key in {**ours, **other} if shapes[0].get(key) != shapes[1].get(key))
            raise ValueError(
                f"Expected layer {layer!r} to have the same shapes in both models; {differ!r} is "
                f"{shapes[0].get(differ)} in `model` and {shapes[1].get(differ)} in `donor`"
            )
        if not ours:
            raise ValueError(f'Expected layer {layer!r} to hold something to replace with parts="{parts}", got nothing')
        pairs.update({f"{layer}.{key}": (ours[key], other[key]) for key in ours})
    saved = [mine.detach().clone() for mine, _ in pairs.values()]
    new = [theirs.detach().clone() for _, theirs in pairs.values()]  # first: the donor may share memory

    def put(values: list[Tensor]) -> None:
        with torch.no_grad():
            for (target, _), value in zip(pairs.values(), values, strict=True):
                target.copy_(value)

    put(new)
    return Surgery(list(pairs), lambda: put(saved))


class FineTuning:
    """A model of which only some layers, or some units, learn.

    Attributes:
        groups: Parameter groups for an optimizer. When only some units learn, weight decay is set to 0 in them: it
            would move the other units, which share the parameters.
    """

    def __init__(self, groups: list[dict[str, Any]], end: Callable[[], None]) -> None:
        self.groups = groups
        self._end: Callable[[], None] | None = end

    def close(self) -> None:
        """Ends it: everything that could learn before can again, and batch norms get their mode back."""
        if self._end is not None:
            self._end()
        self._end = None

    def __enter__(self) -> FineTuning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def finetune_layers(model: nn.Module, layers: Sequence[str] | Mapping[str, Iterable[int]]) -> FineTuning:
    """Lets some layers learn, or single units of them, and freezes the rest.

    Until `close`, nothing else has a gradient, and every batch norm normalizes with its stored statistics and keeps
    them, even after `model.train()`: statistics that drift would change layers that should stay.

    Args:
        model: The model.
        layers: Names of the submodules that learn; or a mapping from names to the indices of the units that learn, of
            layers as in `prune_units`.

    Returns:
        The handle; give its `groups` to an optimizer.

    Raises:
        TypeError: As `prune_units`, if units are named.
        ValueError: If there is no such layer or unit, or a layer has no parameters.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> with finetune_layers(model, {"0": [2]}) as tuning:
        ...     _ = model(torch.ones(1, 2)).sum().backward()
        >>> model[1].weight.grad is None, model[0].bias.grad[:2].tolist()
        (True, [0.0, 0.0])
    """
    learning: dict[nn.Parameter, Tensor | None] = {}  # parameter -> the rows that learn, None for all
    for layer, module in _modules(model, layers).items():
        if not isinstance(layers, Mapping):
            found = list(module.parameters())
            if not found:
                raise ValueError(f"Expected layer {layer!r} to have parameters, got {type(module).__name__} without")
            learning.update(dict.fromkeys(found))
            continue
        parts = _unit_parts(layer, module)
        index = _unit_index(layer, layers[layer], len(_own(layer, parts[0], "weight")))
        for part in parts:
            for key in ("weight", "bias"):
                if getattr(part, key, None) is not None:
                    learning[_own(layer, part, key)] = index
    inner = _inner(model)
    before = [(parameter, parameter.requires_grad) for parameter in inner.parameters()]
    norms = [(module, module.training) for module in inner.modules() if isinstance(module, NORMS[:2])]
    handles: list[Any] = []
    for parameter, _ in before:
        parameter.requires_grad_(parameter in learning)
        rows = learning.get(parameter)
        if rows is not None:
            handles.append(parameter.register_hook(_only(rows)))
    for norm, _ in norms:
        norm.eval()
        handles.append(norm.register_forward_pre_hook(lambda module, args: module.train(False) and None))

    def end() -> None:
        for handle in handles:
            handle.remove()
        for parameter, requires_grad in before:
            parameter.requires_grad_(requires_grad)
        for norm, mode in norms:
            norm.train(mode)

    whole = [parameter for parameter, rows in learning.items() if rows is None]
    part_only = [parameter for parameter, rows in learning.items() if rows is not None]
    groups = [{"params": whole}] if whole else [{"params": part_only, "weight_decay": 0.0}]
    return FineTuning(groups, end)


def _only(rows: Tensor) -> Callable[[Tensor], Tensor]:
    def masked(gradient: Tensor) -> Tensor:
        mask = torch.zeros(len(gradient), dtype=torch.bool, device=gradient.device)
        mask[rows.to(gradient.device)] = True
        # where, not a product: an infinite gradient of another unit must not turn into NaN
        return gradient.where(mask.view(-1, *[1] * (gradient.ndim - 1)), 0.0)

    return masked


# ---- finding layers and units ---------------------------------------------------------------------------------------


def _inner(model: nn.Module) -> nn.Module:
    """The model inside a wrapper of `torch.compile`, whose parameters it shares."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


def _modules(model: nn.Module, layers: Iterable[str], argument: str = "model") -> dict[str, nn.Module]:
    if isinstance(layers, str):
        raise ValueError(f"Expected `layers` to be a list of names, got the string {layers!r}")
    modules = dict(_inner(model).named_modules())
    found = {}
    for layer in layers:
        if layer not in modules or layer == "":
            close = difflib.get_close_matches(layer, modules, 3)
            hint = f"; close names: {close}" if close else "; list them with dict(model.named_modules())"
            raise ValueError(f"Expected `{argument}` to have a submodule {layer!r}, got none of that name{hint}")
        found[layer] = modules[layer]
    if not found:
        raise ValueError("Expected at least one layer, got none")
    return found


def _unit_parts(layer: str, module: nn.Module) -> list[nn.Module]:
    """The modules that must be 0 at a unit for the layer's output to be: the last weighted one, the norms after it."""
    chain = list(_chain(module))
    parts: list[nn.Module] = []
    for part in reversed(chain):
        if isinstance(part, (*WEIGHTED, *NORMS)):
            parts.insert(0, part)
        elif not isinstance(part, KEEP_ZERO):
            break  # from here on a unit is no longer a unit of the output
        if isinstance(part, WEIGHTED):
            break
    if not parts:
        raise TypeError(
            f"Expected layer {layer!r} to be a convolution, linear layer or norm, or an nn.Sequential that ends with "
            f"one (activations, pools and dropout may follow), got {type(module).__name__}; name the layer before it"
        )
    for part in parts:
        weight = _own(layer, part, "weight")
        if isinstance(part, NORMS) and weight.ndim != 1:
            raise TypeError(f"Expected the norm of layer {layer!r} to have one weight a unit, got {list(weight.shape)}")
    return parts


def _chain(module: nn.Module) -> Iterable[nn.Module]:
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
        raise ValueError(
            f"Expected layer {layer!r} to hold a parameter {key!r} that can be changed, but its {kind} {why}; "
            "for a norm without weights, name the layer before it"
        )
    return parameter


def _unit_index(layer: str, units: Iterable[int], count: int) -> Tensor:
    index = torch.as_tensor(list(units) if not isinstance(units, Tensor) else units)
    if index.numel() == 0:
        index = index.long()
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise TypeError(f"Expected the units of layer {layer!r} to be a list of whole numbers, got {units!r}")
    wrong = index[(index < 0) | (index >= count)]
    if len(wrong):
        raise ValueError(f"Expected the units of layer {layer!r} to lie in [0, {count}), got {wrong[:5].tolist()}")
    unique: Tensor = index.long().unique()
    return unique


def _parameter_names(model: nn.Module) -> dict[Tensor, list[str]]:
    names: dict[Tensor, list[str]] = {}
    for name, parameter in _inner(model).named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def _tensors(module: nn.Module, parts: str) -> dict[str, Tensor]:
    if parts == "all":
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        f"{name}.weight".lstrip("."): part.weight
        for name, part in module.named_modules()
        if isinstance(part, WEIGHTED) and isinstance(part.weight, Tensor)
    }
