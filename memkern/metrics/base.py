"""State of streaming metrics: how every one of them resets, merges, saves, moves and synchronizes it.

A metric that streams is three functions: how a batch becomes a state (its own ``update``), how the states of two sets
of points merge, and how a state becomes scores (``stats``). A state is a frozen record of tensors that is never changed
in place, so metrics may share it. It merges as a whole: which ``index`` and ``rest`` are right depends on whose
``peak`` wins, so no entry can be merged on its own.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from memkern.checks import values as checks
from memkern.metrics.plots import histogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S", bound="State")
M = TypeVar("M", bound="Streaming")  # type: ignore[type-arg]  # of whatever state


class State(Protocol):
    """State of a metric after one or more points."""

    def merged(self: S, other: S) -> S:
        """Returns the state after the points of both; raises if they are not of the same units."""

    def tensors(self) -> dict[str, Tensor]:
        """Lists the state's tensors, for ``state_dict`` and for other processes; numbers are 0-d and lie on the CPU."""

    @classmethod
    def from_tensors(cls: type[S], tensors: Mapping[str, Tensor]) -> S:
        """Makes the state whose ``tensors`` gave these tensors, ``[U]``, ``[N]`` or 0-d each."""


class Scored(Protocol):
    """Statistics that hold a score."""

    @property
    def score(self) -> Tensor:
        """Scores, which ``compute`` returns."""


class Streaming(ABC, Generic[S]):
    """A metric over batches: resets, merges, saves, moves and synchronizes its state.

    A child names its state and the options that two metrics must share, and writes ``update`` and ``stats``.
    """

    _OPTIONS: ClassVar[tuple[str, ...]]  # names of the options that must be equal in two metrics that merge
    _STATE: type[S]
    _state: S | None = None

    @abstractmethod
    def _entries(self) -> set[str]:
        """The names of the tensors of a state."""

    @abstractmethod
    def stats(self) -> Scored:
        """Computes the scores and their parts over all points so far."""

    def _add(self, state: S) -> None:
        self._state = state if self._state is None else self._state.merged(state)

    def reset(self) -> None:
        """Forgets every point."""
        self._state = None

    def compute(self) -> Tensor:
        """Computes the scores over all points so far: the ``score`` of ``stats``.

        Errors are those that ``stats`` documents: a ``ValueError`` where too few points have been seen.
        """
        return self.stats().score

    def plot(self) -> Figure:
        """Draws a histogram of the scores so far of the units.

        Errors are those that ``stats`` documents: a ``ValueError`` where too few points have been seen; and a
        ``ModuleNotFoundError`` where matplotlib is missing.

        Returns:
            The figure, which notebooks show; nothing of pyplot is touched.
        """
        return histogram(self.compute(), type(self).__name__, "units")

    def merge(self: M, other: M) -> None:
        """Adds the points of another metric with the same options; any order of merging gives the same peaks.

        Args:
            other: A metric of the same class that saw other points; it is left as it was.

        Raises:
            TypeError: If ``other`` is of another class, or its results have another dtype.
            ValueError: If the options or the numbers of units differ.
        """
        checks.same_options(self, other, self._OPTIONS)
        if other._state is not None:
            self._add(other._state)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state as tensors by name; empty before the first point."""
        return {} if self._state is None else self._state.tensors()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces the state by one that ``state_dict`` returned.

        Args:
            state: Name -> tensor, ``[U]``, ``[N]`` or 0-d, of a metric with the same options; empty without points.

        Raises:
            TypeError: If ``state`` is no dict.
            ValueError: If an entry is missing or unknown.
        """
        checks.state_entries(state, self._entries())
        self._state = self._STATE.from_tensors(state) if state else None

    def to(self: M, device: torch.device | str) -> M:
        """Moves the state to a device.

        Args:
            device: Device of the tensors; numbers stay on the CPU, where they are read.

        Returns:
            The metric itself.
        """
        moved = {name: value.to(device) if value.dim() else value for name, value in self.state_dict().items()}
        self.load_state_dict(moved)
        return self

    def sync(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        """Merges the states of all processes of a torch.distributed group; each then holds all points.

        One collective call for the whole state. Call it once, after the last update; without an initialized
        torch.distributed there is one process and nothing changes.

        Args:
            group: The process group, None for the default one.
        """
        own = self.state_dict()
        device = next((value.device for value in own.values()), torch.device("cpu"))
        parts = [self._STATE.from_tensors(state) for state in _gathered(own, group) if state]
        self._state = functools.reduce(self._STATE.merged, parts) if parts else None
        self.to(device)


def _gathered(own: dict[str, Tensor], group: torch.distributed.ProcessGroup | None) -> list[dict[str, Tensor]]:
    """Every process's state on the CPU, in the order of the ranks; without torch.distributed just ``own``."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    states: list[dict[str, Tensor]] = [{}] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(states, {name: value.cpu() for name, value in own.items()}, group=group)
    return states
