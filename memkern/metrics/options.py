"""What the metrics share: the choice of the centre, ``compat``, results in the caller's kind, states over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memkern.checks import values as checks

RESTS = ("mean", "median")
ACTIVATIONS = ("raw", "relu", "abs")


def check_activations(x: Tensor, view_dim: int | None, unit_dim: int | None, activation: str) -> int:
    """Checks activations and their options before any work; returns the dimension of the units."""
    checks.floating(x, "activations")
    checks.strided(x, "activations")
    unit = checks.unit_dimension(x, view_dim, unit_dim)
    checks.averaged_elements(x, unit)
    checks.one_of(activation, "activation", ACTIVATIONS)
    return unit


def compat_scripts(compat: str | None) -> bool:
    """Whether the released scripts' procedure is asked for, by ``compat="scripts"``."""
    if compat is not None:
        checks.one_of(compat, "compat", ("scripts",))
    return compat is not None


def in_callers_kind(value: Any, was_numpy: bool) -> Any:
    """Turns the tensors of a result, a tensor or a tuple of them, into numpy if the caller passed numpy."""
    if not was_numpy:
        return value
    if isinstance(value, Tensor):
        return checks.as_numpy(value)
    return type(value)(*(in_callers_kind(part, was_numpy) for part in value)) if isinstance(value, tuple) else value


def gather_states(state: dict[str, Tensor], group: Any) -> list[dict[str, Tensor]]:
    """Every process's state, in the order of the ranks, on the CPU; one collective for the whole state.

    Args:
        state: This process's state.
        group: The process group, None for the default one.

    Returns:
        One state per process; just this one when torch.distributed is not initialized.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(states, {key: value.cpu() for key, value in state.items()}, group=group)
    return states
