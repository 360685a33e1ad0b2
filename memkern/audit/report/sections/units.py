"""UnitMem and ClassMem of the units of every layer, and UnitMem against SSLMem of the image at a unit's peak."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.statistics import kendall

MAX_HISTOGRAMS, MAX_SCATTERS, MAX_DOTS = 60, 6, 500


def _data(context: ReportContext) -> Mapping[str, object]:
    data = context.data
    return {
        "histograms": _histograms(data),
        "scatters": _scatters(data),
        "layers": len(data.units),
        "has_classes": context.has_classes,
    }


def _histograms(data: RunArrays) -> list[str]:
    names = list(data.units)
    chosen = [names[i] for i in charts.evenly_spaced(len(names), MAX_HISTOGRAMS)]
    return [charts.histogram(name, data.units[name].unitmem, data.units[name].classmem) for name in chosen]


def _scatters(data: RunArrays) -> list[str]:
    """UnitMem against SSLMem of the peak image, of some layers, the last one among them."""
    if data.sslmem is None:
        return []
    score_of = {int(index): float(value) for index, value in zip(data.index, data.sslmem, strict=True)}
    generator = np.random.default_rng(0)
    names = list(data.units)
    points = []
    for i in charts.evenly_spaced(len(names), MAX_SCATTERS):
        layer = data.units[names[i]]
        score = np.array([score_of.get(int(index), math.nan) for index in layer.peak_index], dtype=np.float64)
        kept = np.flatnonzero(~np.isnan(score) & (np.nan_to_num(layer.unitmem) != 0))
        tau = kendall(score[kept], layer.unitmem[kept])
        if len(kept) > MAX_DOTS:
            kept = np.sort(generator.choice(kept, MAX_DOTS, replace=False))
        points.append((names[i], score[kept], layer.unitmem[kept], tau))
    every = np.concatenate([score for _, score, _, _ in points]) if points else np.array([])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    return [charts.scatter(*parts, low=low, high=high) for parts in points if len(parts[1])]


SECTION = Section("units", "Which units", order=40, data=_data)
