"""Lets some layers, or some units of them, learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from memkern.audit.interventions.handles import FineTuning
from memkern.audit.interventions.units import WITH_STATISTICS, submodules, unit_rows
from memkern.audit.taps.modules import unwrapped
from memkern.errors import ArgumentValueError


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
        TypeError: If units are named of a layer whose units have no weights of their own.
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
    learning = _learning(model, layers)
    end = _freeze(unwrapped(model), learning)
    whole = [parameter for parameter, rows in learning.items() if rows is None]
    if whole:
        return FineTuning([{"params": whole}], end)
    return FineTuning([{"params": list(learning), "weight_decay": 0.0}], end)


def _learning(
    model: nn.Module, layers: Sequence[str] | Mapping[str, Iterable[int]]
) -> dict[nn.Parameter, Tensor | None]:
    """Finds the parameters that learn: parameter -> the rows that do, `None` for all."""
    learning: dict[nn.Parameter, Tensor | None] = {}
    for layer, module in submodules(model, layers).items():
        if isinstance(layers, Mapping):
            learning.update({part.parameter: part.rows for part in unit_rows(layer, module, layers[layer])})
            continue
        found = list(module.parameters())
        if not found:
            raise ArgumentValueError(
                f"Expected layer {layer!r} to have parameters, got {type(module).__name__} without"
            )
        learning.update(dict.fromkeys(found))
    return learning


def _freeze(model: nn.Module, learning: Mapping[nn.Parameter, Tensor | None]) -> Callable[[], None]:
    """Freezes everything but what learns, the statistics of batch norms too; returns what undoes that."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    norms = [(module, module.training) for module in model.modules() if isinstance(module, WITH_STATISTICS)]
    hooks: list[RemovableHandle] = []
    for parameter, _ in before:
        parameter.requires_grad_(parameter in learning)
        rows = learning.get(parameter)
        if rows is not None:
            hooks.append(parameter.register_hook(_only(rows)))
    for norm, _ in norms:
        norm.eval()
        hooks.append(norm.register_forward_pre_hook(_keep_statistics))

    def end() -> None:
        for hook in hooks:
            hook.remove()
        for parameter, requires_grad in before:
            parameter.requires_grad_(requires_grad)
        for norm, mode in norms:
            norm.train(mode)

    return end


def _keep_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A hook before a norm's forward pass: the model may have been put into training mode since the last one."""
    norm.eval()


def _only(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """Makes a hook that sets the gradient of all other rows to 0."""

    def masked(gradient: Tensor) -> Tensor:
        mask = torch.zeros(len(gradient), dtype=torch.bool, device=gradient.device)
        mask[rows.to(gradient.device)] = True
        # where, not a product: an infinite gradient of another unit must not turn into NaN
        return gradient.where(mask.view(-1, *[1] * (gradient.ndim - 1)), 0.0)

    return masked
