"""Distribution of SSLMem over the images, and those with the highest and lowest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.control import what_is_scored
from memkern.audit.report.gallery import ends, items
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import RunArrays


def _data(context: ReportContext) -> Mapping[str, object]:
    data, thumbs = context.data, context.thumbs
    most, least = (items(data, rows, context.run.manifest, thumbs) for rows in ends(data))
    return {
        "distribution": _distribution(data),
        "most": most,
        "least": least,
        "pictures": any(item.thumb for item in (*most, *least)),
        "thumbs": thumbs,
        "has_q": data.q is not None,
    }


def _distribution(data: RunArrays) -> str:
    if data.sslmem is None:
        return ""
    score = data.sslmem[data.scored]
    control = data.control
    others = data.sslmem[control]
    names = (what_is_scored(data.significance) if data.has_candidates else "images", "control images")
    if not len(control) and data.has_candidates:
        others, names = np.delete(data.sslmem, data.scored), ("candidates", "other images")
    shown = others if len(others) else None
    return charts.both_widths(lambda width: charts.distribution(score, shown, names, width=width))


SECTION = Section("images", "Which images", order=30, data=_data)
