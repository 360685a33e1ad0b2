"""LayerMem of every layer as a chart, and everything of every layer as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.control import control_words
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import Floats, RunArrays

CROSSED = 4
"""From this many trainings on, halves of them rank and measure the top groups; with fewer, halves of the views."""

FEW = 50
"""Top groups say something of their own only where more images are scored."""


@dataclass(frozen=True)
class LayerRow:
    """A row of the table; NaN is shown as a dash.

    Attributes:
        name: The layer.
        units: How many units it has.
        layermem: LayerMem of the scored images.
        delta: What it adds to that of the layer before.
        others: LayerMem of the control images, or of the images that are no candidates.
        top: LayerMem of the images that rank highest at the output.
        top_control: The same of the control images that rank highest.
        n_top: How many images these are.
        unitmem: Mean UnitMem.
        most: Largest UnitMem.
        classmem: Mean ClassMem.
        dead: How many units are dead.
        unbounded: Of how many units UnitMem has no bounds; they are in no mean.
        note: What should be known of its units; "" for nothing.
        best: Whether it is the layer that adds most.
    """

    name: str
    units: int
    layermem: float
    delta: float
    others: float
    top: float
    top_control: float
    n_top: int
    unitmem: float
    most: float
    classmem: float
    dead: int
    unbounded: int
    note: str
    best: bool


def _data(context: ReportContext) -> Mapping[str, object]:
    data, manifest = context.data, context.run.manifest
    rows = _rows(data, manifest.notes)
    band = _band(data)
    control = _control(data)
    return {
        "rows": rows,
        "chart": _chart(data, band),
        "against": _against(data),
        "n_top": max((row.n_top for row in rows), default=0),
        "has_top": len(data.scored) > FEW and any(math.isfinite(row.top) for row in rows),
        "has_top_control": any(math.isfinite(row.top_control) for row in rows),
        "by_trainings": len(data.encoders.get("encoder", [])) >= CROSSED,
        "has_classes": context.has_classes,
        "unbounded": sum(row.unbounded for row in rows),
        "left_out": list(manifest.left_out.items()),
        "units_by": manifest.units_by,
        "notes": [(row.name, row.note) for row in rows if row.note],
        "has_band": band is not None and bool(np.isfinite(band[0]).any()),
        "control": "" if control is None or data.significance is None else control_words(data.significance),
    }


def _names(data: RunArrays) -> list[str]:
    return [str(name) for name in data.layers["layer"]]


def _control(data: RunArrays) -> Floats | None:
    """LayerMem of the control images, `[L]`, where there are any."""
    values = data.column("layermem_control")
    return values if np.isfinite(values).any() else None


def _against(data: RunArrays) -> charts.Compared | None:
    """LayerMem of the control; without one that of the images that are no candidates, where both kinds exist."""
    control = _control(data)
    if control is not None:
        return charts.Compared("control", control)
    values = data.column("layermem_others")
    return charts.Compared("others", values) if data.has_candidates and np.isfinite(values).any() else None


def _band(data: RunArrays) -> tuple[Floats, Floats] | None:
    """The 95 % interval around LayerMem, `[L]` each: that of the excess, drawn from the control."""
    low, high, control = data.column("low"), data.column("high"), _control(data)
    if not np.isfinite(low).any():
        return None
    return (low, high) if control is None else (control + low, control + high)


def _rows(data: RunArrays, notes: Mapping[str, str]) -> list[LayerRow]:
    against = _against(data)
    layermem, delta = data.scored_column("layermem"), data.scored_column("delta")
    best = int(np.nanargmax(delta)) if np.isfinite(delta).any() else -1
    n_top = np.nan_to_num(data.column("n_top"), nan=float(FEW))
    return [
        LayerRow(
            name=name,
            units=int(data.layers["units"][place]),
            layermem=float(layermem[place]),
            delta=float(delta[place]),
            others=math.nan if against is None else float(against.values[place]),
            top=float(data.column("layermem_top50")[place]),
            top_control=float(data.column("layermem_top50_control")[place]),
            n_top=int(n_top[place]),
            unitmem=float(data.column("unitmem_mean")[place]),
            most=float(data.column("unitmem_max")[place]),
            classmem=float(data.column("classmem_mean")[place]),
            dead=int(np.nan_to_num(data.column("dead")[place])),
            unbounded=int(np.nan_to_num(data.column("unbounded")[place])),
            note=notes.get(name, ""),
            best=place == best,
        )
        for place, name in enumerate(_names(data))
    ]


def _chart(data: RunArrays, band: tuple[Floats, Floats] | None) -> str:
    layermem = data.scored_column("layermem")
    if not np.isfinite(layermem).any():
        return ""
    names, against, delta = _names(data), _against(data), data.scored_column("delta")
    return charts.both_widths(
        lambda width: charts.layers(names, layermem, delta, width=width, against=against, band=band)
    )


SECTION = Section("layers", "Where in the network", order=20, data=_data)
