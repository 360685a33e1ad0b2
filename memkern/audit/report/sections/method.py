"""Formulas, rules and limits of what the report says, and how the views were made."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.section import ReportContext, Section
from memkern.audit.report.text import flattened
from memkern.audit.report.verdict import RULE


def _data(context: ReportContext) -> Mapping[str, object]:
    views = context.run.manifest.get("views") or {}
    options = context.run.manifest.get("options") or {}
    return {
        "anchor": views.get("pairs") == "anchor",
        "normalize": views.get("normalize", True),
        "median": options.get("median", False),
        "has_classes": context.has_classes,
        "rule": RULE,
        "views": flattened(views),
    }


SECTION = Section("method", "Method", order=70, data=_data)
