"""Protocol between fusion and the tap that it works for, so that neither imports the other's module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from memkern.audit.taps.hook_points import HookPoint
from memkern.audit.taps.reduction import TapStats


class TapPoint:
    """Tensor of a pass that is read: the output, or input, of one call of a submodule.

    Args:
        hook_points: The hook points of the tensor; more than one if it is reported under several names.

    Attributes:
        hook_points: The hook points of the tensor.
        consumer: Name of the module that alone reads the tensor; "" if others do, or nobody knows.
        unit_dim: The dimension of the units; `None` if it is not known, the hook points disagree, or dim 0 is not the
            batch.
        layout: Where the images are in the tensor; `None`: dim 0 is the batch.
    """

    def __init__(self, hook_points: Sequence[HookPoint]) -> None:
        self.hook_points = tuple(hook_points)
        self.consumer = self.hook_points[-1].consumer
        dims = {point.unit_dim for point in self.hook_points}
        self.layout = self.hook_points[0].layout
        self.unit_dim = dims.pop() if len(dims) == 1 and self.layout is None else None


class PointwiseHost(Protocol):
    """Reader of the layers that fusion runs."""

    def visit(self, name: str) -> TapPoint | None:
        """Counts a call of a module and returns the tap point of its output."""

    def upcoming(self, name: str) -> TapPoint | None:
        """Returns the tap point of the output of a module's next call, which is not counted yet."""

    def reduce(self, point: TapPoint, module: nn.Module, output: Tensor | None) -> None:
        """Reduces the tensor `[N * V, …]` that a module has made."""

    def receive(self, point: TapPoint, stats: TapStats) -> None:
        """Takes the statistics of a tensor that fusion has reduced."""
