"""Handles of changed models: what a change was, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from torch import nn

H = TypeVar("H", bound="_Handle")


class _Handle:
    """A change of a model that ends once: at the end of a `with` block, or when it is told to."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def _close(self) -> None:
        if self._end is not None:
            self._end()
        self._end = None

    def __enter__(self: H) -> H:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


class Surgery(_Handle):
    """A change of a model that can be undone.

    Use it as a context manager to undo the change at the end of the block, or call `restore`. Undo several changes in
    the reverse order of making them.

    Args:
        changed: Names of the parameters and buffers that the change overwrites.
        undo: Puts back what the change overwrote.

    Attributes:
        changed: Names of the parameters and buffers that were changed.
    """

    def __init__(self, changed: Sequence[str], undo: Callable[[], None]) -> None:
        super().__init__(undo)
        self.changed = tuple(changed)

    def restore(self) -> None:
        """Puts back, bit for bit, what the change had overwritten; a second call does nothing."""
        self._close()


class FineTuning(_Handle):
    """A model of which only some layers, or some units, learn.

    Args:
        groups: Parameter groups for an optimizer.
        end: Makes the whole model learn again.

    Attributes:
        groups: Parameter groups for an optimizer. When only some units learn, weight decay is set to 0 in them: it
            would move the other units, which share the parameters.
    """

    def __init__(self, groups: list[dict[str, list[nn.Parameter] | float]], end: Callable[[], None]) -> None:
        super().__init__(end)
        self.groups = groups

    def close(self) -> None:
        """Ends the training of some layers only: what could learn before can again, batch norms get their mode back."""
        self._close()
