"""Formulas, rules and limits of what the report says, and how the views were made."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.section import ReportContext, Section
from memkern.audit.report.text import flattened
from memkern.audit.report.verdict import RULE


def _data(context: ReportContext) -> Mapping[str, object]:
    manifest = context.run.manifest
    return {
        "anchor": manifest.views.pairs == "anchor",
        "normalize": manifest.views.normalize,
        "median": manifest.plan.median,
        "activation": {"relu": "positive part of the activations", "abs": "absolute value of the activations"}.get(
            manifest.plan.activation, ""
        ),
        "has_classes": context.has_classes,
        "rule": RULE,
        "several": len(context.data.encoders.get("encoder", [])) > 2,
        "has_others": not len(context.data.control) and context.data.has_candidates,
        "views": flattened(manifest.views.to_json()),
    }


SECTION = Section("method", "Method", order=70, data=_data)
