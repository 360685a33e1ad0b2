"""Readings: what is kept of one encoder's forward passes over the images of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EncoderReadings:
    """Reading of one encoder on consecutive images; L layers, N images, V views, U units of all layers side by side.

    Attributes:
        alignment: Mean distance between the views of each image, `[L, N]` float32.
        halves: The same within the even and within the odd views, `[2, L, N]` float32; `[2, L, 0]` with fewer than 4
            views, and with anchored pairs.
        rows: At the output, sum of the distances of each view to the others, `[N, V]` float32; `[N, 0]` with anchored
            pairs.
        units: State of `UnitMem`: peak, index, rest, low `[U]`, count; means `[N, U]` for the median.
        classes: State of `ClassMem`: sums `[C, U]`, count `[C]`; empty without labels, or where it is not measured.
        peaks: State of the units over the balanced images alone: peak `[U]` float32, index `[U]` int64, rest `[U]`
            float64, count, tied `[U]` bool; empty if there are no such images.
        seconds: What each phase of the work took.
    """

    alignment: Tensor
    halves: Tensor
    rows: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    peaks: Mapping[str, Tensor]
    seconds: Tensor
