"""Readings of one encoder, and how those of several shards are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem


@dataclass(frozen=True)
class EncoderReadings:
    """Readings of one encoder, on one shard or on all; L layers, U units of all layers side by side, n images.

    Attributes:
        alignment: `[L, n]` float32.
        halves: Alignment within the even and within the odd views, `[2, L, n]` float32; `[2, L, 0]` with fewer than 4
            views, or where the clean image is compared with each view.
        rows: Sum of the distances of each view to the others at the output, `[n, V]` float32; `[n, 0]` where the clean
            image is compared with each view.
        units: State of `UnitMem` over all units: peak, index, rest, low `[U]`, count; means `[n, U]` for the median.
        classes: State of `ClassMem` over all units: sums `[C, U]`, count `[C]`; empty without labels, and for a g.
        peaks: State of `UnitMem` over the balanced images alone, and tied `[U]` bool: whether two of them share the
            peak. Empty if there are no such images.
        seconds: `[len(PHASES)]`, what each phase of the work took.
        contents: Digest of the pixels that were read.
    """

    alignment: Tensor
    halves: Tensor
    rows: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    peaks: Mapping[str, Tensor]
    seconds: Tensor
    contents: str = ""


def join(readings: Iterable[EncoderReadings]) -> EncoderReadings:
    """Puts the readings of an encoder on several shards together, in the given order; one is in memory at a time.

    The order fixes the bits of the float64 sums; peaks and alignments are the same in any order.

    Args:
        readings: The readings, one at least.

    Returns:
        The reading of all their images.
    """
    units, classes, peaks = UnitMem(), ClassMem(), Peaks()
    parts: list[EncoderReadings] = []
    for each in readings:
        of_units, of_classes = UnitMem(), ClassMem()
        of_units.load_state_dict(dict(each.units))
        of_classes.load_state_dict(dict(each.classes))
        units.merge(of_units)
        classes.merge(of_classes)
        peaks.merge(each.peaks)
        parts.append(replace(each, units={}, classes={}, peaks={}))
    return EncoderReadings(
        alignment=torch.cat([each.alignment for each in parts], 1),
        halves=torch.cat([each.halves for each in parts], 2),
        rows=torch.cat([each.rows for each in parts], 0),
        units=units.state_dict(),
        classes=classes.state_dict(),
        peaks=peaks.state(),
        seconds=torch.stack([each.seconds for each in parts]).sum(0),
        contents=" ".join(each.contents for each in parts),
    )


class Peaks:
    """The images that units answer most to among the balanced ones, and whether two images share the peak."""

    def __init__(self) -> None:
        self._units = UnitMem()
        self._tied = torch.zeros(0, dtype=torch.bool)

    def update(self, means: Tensor, ids: Tensor) -> None:
        """Adds images.

        Args:
            means: Mean activation of each unit on each image, `[n, U]`.
            ids: Their positions in the list, `[n]` int64, on the same device.
        """
        if not len(means):
            return
        of_batch = UnitMem()
        of_batch.update(means, ids=ids)
        state = of_batch.state_dict()
        self.merge({**state, "tied": (means == state["peak"].to(means.dtype)).sum(0) > 1})

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Adds the images of another state, as `state` gives it: peak, index, rest, low, tied `[U]`, and count."""
        if not state:
            return
        other = UnitMem()
        other.load_state_dict({name: value for name, value in state.items() if name != "tied"})
        tied, peak = state["tied"], state["peak"]
        if self._units.count:
            mine = self._units.state_dict()["peak"]
            # Neither is larger: the peak is shared, or one is NaN, which no image can have for its own.
            tied = torch.where(mine > peak, self._tied, torch.where(peak > mine, tied, torch.ones_like(tied)))
        self._units.merge(other)
        self._tied = tied

    def state(self) -> dict[str, Tensor]:
        """Returns peak, index, rest, low `[U]`, count and tied `[U]` bool; nothing if no image was seen."""
        return {**self._units.state_dict(), "tied": self._tied} if self._units.count else {}
