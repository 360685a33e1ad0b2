"""Pairs of images that are copies, or nearly so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memkern.audit.report.gallery import MAX_DUPLICATES, items
from memkern.audit.report.section import ReportContext, Section


def _data(context: ReportContext) -> Mapping[str, object]:
    data, manifest = context.data, context.run.manifest
    place = {name: row for row, name in enumerate(data.ids)}
    found = manifest.data.duplicates
    pairs = []
    for first, second, kind in found[:MAX_DUPLICATES]:
        if first in place and second in place:
            a, b = items(data, np.array([place[first], place[second]]), manifest, context.thumbs)
            pairs.append((a, b, str(kind)))
    exact = sum(kind == "exact" for *_, kind in found)
    return {"pairs": pairs, "count": len(found), "exact": exact, "full": manifest.data.check == "full"}


SECTION = Section("duplicates", "Duplicates", order=60, data=_data)
