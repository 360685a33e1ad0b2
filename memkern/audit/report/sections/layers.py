"""LayerMem of every layer as a chart, and everything of every layer as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import Floats, RunArrays

FEW = 50
"""The mean of the 50 most memorized images says something of its own only where more are scored."""


@dataclass(frozen=True)
class LayerRow:
    """A row of the table; NaN is shown as a dash.

    Attributes:
        name: The layer.
        units: How many units it has.
        layermem: LayerMem of the scored images.
        delta: What it adds to that of the layer before.
        others: LayerMem of the other images.
        top: LayerMem of the 50 most memorized images.
        unitmem: Mean UnitMem.
        most: Largest UnitMem.
        classmem: Mean ClassMem.
        dead: How many units are dead.
        best: Whether it is the layer that adds most.
    """

    name: str
    units: int
    layermem: float
    delta: float
    others: float
    top: float
    unitmem: float
    most: float
    classmem: float
    dead: int
    best: bool


def _data(context: ReportContext) -> Mapping[str, object]:
    data = context.data
    return {
        "rows": _rows(data),
        "chart": _chart(data),
        "has_top": len(data.scored) > FEW,
        "has_classes": context.has_classes,
    }


def _names(data: RunArrays) -> list[str]:
    return [str(name) for name in data.layers["layer"]]


def _others(data: RunArrays) -> Floats | None:
    """LayerMem of the images that are no candidates, `[L]`, where both kinds exist."""
    values = data.column("layermem_others")
    return values if data.has_candidates and np.isfinite(values).any() else None


def _rows(data: RunArrays) -> list[LayerRow]:
    others = _others(data)
    layermem, delta = data.scored_column("layermem"), data.scored_column("delta")
    best = int(np.nanargmax(delta)) if np.isfinite(delta).any() else -1
    return [
        LayerRow(
            name=name,
            units=int(data.layers["units"][place]),
            layermem=float(layermem[place]),
            delta=float(delta[place]),
            others=math.nan if others is None else float(others[place]),
            top=float(data.column("layermem_top50")[place]),
            unitmem=float(data.column("unitmem_mean")[place]),
            most=float(data.column("unitmem_max")[place]),
            classmem=float(data.column("classmem_mean")[place]),
            dead=int(np.nan_to_num(data.column("dead")[place])),
            best=place == best,
        )
        for place, name in enumerate(_names(data))
    ]


def _chart(data: RunArrays) -> str:
    layermem = data.scored_column("layermem")
    if not np.isfinite(layermem).any():
        return ""
    names, others, delta = _names(data), _others(data), data.scored_column("delta")
    return charts.both_widths(lambda width: charts.layers(names, layermem, others, delta, width=width))


SECTION = Section("layers", "Where in the network", order=20, data=_data)
