"""Records that a comparison of two audits consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """A mean of run A, of run B, and what the difference B - A is worth.

    Attributes:
        a: Mean in A.
        b: Mean in B.
        difference: B - A.
        low: Lower end of the confidence interval of the difference.
        high: Upper end.
        p: One-sided p.
        p_holm: The same, corrected for all layers by Holm's method; equal to `p` where one thing is tested.
        d: Cohen's d over the images or units.
        over: What interval and p take as drawn. "trainings": Welch's t over trainings, where both runs have two or more
            in each role. "images": bootstrap of the interval, and exchange of A and B within images, given the
            trainings. "units": bootstrap of the interval, given the trainings, and no p.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    d: float
    over: str


@dataclass(frozen=True)
class Agreement:
    """Agreement of two rankings.

    Attributes:
        tau: Kendall's tau-b; 1 the same order, 0 unrelated.
        overlap: Share of the top k that is in both; `None` for units.
        k: Size of the top that `overlap` compares; `None` for units.
        chance: The share to expect of unrelated rankings.
    """

    tau: float
    overlap: float | None = None
    k: int | None = None
    chance: float | None = None


@dataclass(frozen=True)
class LayerDifference:
    """Differences of one layer that both runs have.

    Attributes:
        name: The layer.
        layermem: LayerMem over the scored images, or `None` without a reference encoder in one of the runs.
        unitmem: Mean UnitMem of its units.
        images: How alike the images rank by their score at this layer, or `None` as above.
        units: How alike the units rank by UnitMem; `None` if the layer has another number of units.
    """

    name: str
    layermem: Difference | None
    unitmem: Difference
    images: Agreement | None
    units: Agreement | None


@dataclass(frozen=True)
class UnitChange:
    """A unit whose UnitMem changed.

    Attributes:
        layer: The layer.
        unit: Its number.
        a: UnitMem in A.
        b: UnitMem in B.
        peak_a: Id of the image at its peak in A.
        peak_b: The same in B.
    """

    layer: str
    unit: int
    a: float
    b: float
    peak_a: str
    peak_b: str
