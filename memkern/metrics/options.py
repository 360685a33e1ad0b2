"""Helpers that all metrics share: options of units, ``compat``, and results in the caller's kind."""

from __future__ import annotations

from typing import TypeVar, cast

from torch import Tensor

from memkern import dispatch
from memkern.checks import values as checks

R = TypeVar("R")

RESTS = ("mean", "median")
ACTIVATIONS = ("raw", "relu", "abs")


def check_activations(x: Tensor, view_dim: int | None, unit_dim: int | None, activation: str) -> int:
    """Checks activations ``[N, ...]`` and their options before any work, and returns the dimension of the units."""
    checks.floating(x, "activations")
    checks.strided(x, "activations")
    unit = checks.unit_dimension(x, view_dim, unit_dim)
    checks.averaged_elements(x, unit)
    checks.one_of(activation, "activation", ACTIVATIONS)
    return unit


def compat_scripts(compat: str | None) -> bool:
    """Tells whether the released scripts' procedure is asked for, by ``compat="scripts"``."""
    if compat is not None:
        checks.one_of(compat, "compat", ("scripts",))
    return compat is not None


def check_options(rest: str, activation: str, backend: str) -> None:
    """Checks the options of a streaming metric of units."""
    checks.one_of(rest, "rest", RESTS)
    checks.one_of(activation, "activation", ACTIVATIONS)
    checks.one_of(backend, "backend", dispatch.NAMES)


def in_callers_kind(value: R, was_numpy: bool) -> R:
    """Turns the tensors of a result, a tensor or a named tuple of them, into numpy if the caller passed numpy."""
    if not was_numpy:
        return value
    if isinstance(value, Tensor):
        return cast("R", checks.as_numpy(value))
    if isinstance(value, tuple):
        return cast("R", type(value)(*(in_callers_kind(part, was_numpy) for part in value)))
    return value
