"""The images that units answer most to among those that as many encoders saw as did not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from memkern.metrics.units import UnitMem


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
