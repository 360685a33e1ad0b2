"""Provenance of the numbers: command, versions, weights, device, seconds."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.section import ReportContext, Section
from memkern.audit.report.text import flattened

FIELDS = (
    "created", "versions", "weights", "candidates", "options", "device", "precision", "wall", "shards",
)  # fmt: skip
"""Fields of the manifest that are told, in this order."""


def _data(context: ReportContext) -> Mapping[str, object]:
    stored = context.run.manifest.to_json()
    return {"provenance": flattened({key: stored[key] for key in FIELDS})}


SECTION = Section("provenance", "Provenance", order=80, data=_data)
