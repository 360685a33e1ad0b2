"""The reduction of each tap point, prepared for outputs that lie in memory as those of the last pass did."""

from __future__ import annotations

import torch
from torch import Tensor

from memkern import dispatch
from memkern.audit.taps.protocol import TapPoint
from memkern.audit.taps.reduction import PreparedCall

MemorySignature = tuple[int | None, torch.Size, tuple[int, ...], torch.dtype, torch.device, bool]
"""Number of views, shape, strides, dtype, device, and whether a kernel may be called past torch's dispatcher."""


def memory_signature(x: Tensor, n_views: int | None) -> MemorySignature:
    """Describes how an output `[N * V, …]` lies in memory: calls with equal signatures differ in the address only."""
    return n_views, x.shape, x.stride(), x.dtype, x.device, dispatch.can_bypass_dispatcher(x)


class CallCache:
    """Prepared calls by tap point."""

    def __init__(self) -> None:
        self._calls: dict[TapPoint, tuple[MemorySignature, PreparedCall | None]] = {}

    def make_ready(self) -> None:
        """Makes the results of the next calls.

        Called before a pass rather than between its layers, which empty the caches that Python needs.
        """
        for _, call in self._calls.values():
            if call is not None:
                call.make_ready()

    def find(self, point: TapPoint, signature: MemorySignature) -> PreparedCall | None:
        """Finds the call that was prepared for an output of this signature; `None` if there is none."""
        known = self._calls.get(point)
        return None if known is None or known[0] != signature else known[1]

    def is_known(self, point: TapPoint, signature: MemorySignature) -> bool:
        """Tells whether an output of this signature was seen last, even if no call could be prepared for it."""
        known = self._calls.get(point)
        return known is not None and known[0] == signature

    def keep(self, point: TapPoint, signature: MemorySignature, call: PreparedCall | None) -> None:
        """Replaces the call of a tap point."""
        self._calls[point] = signature, call
