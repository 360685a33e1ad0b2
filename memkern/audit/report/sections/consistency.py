"""Consistency of the layers' rankings of images: top-k overlap and Kendall's tau, every layer against every other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.statistics import kendall, overlap

MAX_LAYERS, MAX_RANKED = 16, 5000


def _shown(context: ReportContext) -> bool:
    return len(context.data.ratio) >= 2 and len(context.data.scored) >= 10


def _data(context: ReportContext) -> Mapping[str, object]:
    ratio, rows = context.data.ratio, context.data.scored
    names = list(ratio)
    chosen = [names[i] for i in charts.evenly_spaced(len(names), MAX_LAYERS)]
    k = min(100, max(1, len(rows) // 10))
    ranked = rows[charts.evenly_spaced(len(rows), MAX_RANKED)]
    overlaps, taus = np.eye(len(chosen)), np.eye(len(chosen))
    for i, first in enumerate(chosen):
        for j, second in enumerate(chosen[:i]):
            overlaps[i, j] = overlaps[j, i] = overlap(ratio[first][rows], ratio[second][rows], k)
            taus[i, j] = taus[j, i] = kendall(ratio[first][ranked], ratio[second][ranked])
    return {
        "chart": charts.both_widths(lambda width: charts.matrix(chosen, overlaps, taus, k, width=width)),
        "k": k,
        "chance": k / len(rows),
        "layers": len(names),
        "layers_shown": len(chosen),
        "neighbors": float(np.mean([taus[i, i + 1] for i in range(len(chosen) - 1)])),
        "ends": float(taus[0, -1]),
    }


SECTION = Section("consistency", "Do layers agree on the images?", order=50, data=_data, shown=_shown)
