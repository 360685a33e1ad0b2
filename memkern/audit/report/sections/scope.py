"""Scope of the audit, as a list of facts."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.control import control_words
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import RunArrays


def _data(context: ReportContext) -> Mapping[str, object]:
    manifest, data = context.run.manifest, context.data
    views, reference = manifest.views, manifest.reference
    named = manifest.candidates is not None
    facts = [
        ("Encoder", manifest.encoder),
        _reference(reference, data),
        ("Images", f"{len(data.ids):,} from {manifest.data.source}"),
        ("Candidates", f"{int(data.candidate.sum()):,} images" if named else _not_named(data)),
        *_trainings(data),
        ("Views", f"{views.n_views} of each image, “{views.transform}”, seed {views.seed}"),
        ("Layers", f"{len(data.units)}, {sum(len(layer.unit) for layer in data.units.values()):,} units"),
        ("SSLMem measured at", manifest.output),
    ]
    if manifest.data.skipped:
        facts.append(("Skipped", f"{len(manifest.data.skipped)} images that could not be read"))
    return {"facts": facts}


def _reference(reference: str | None, data: RunArrays) -> tuple[str, str]:
    if reference and data.significance is not None and data.significance.design == "varying":
        return "Listed in", reference  # no encoder is the reference of the others
    return "Reference encoder", reference or "none: SSLMem and LayerMem are not measured"


def _not_named(data: RunArrays) -> str:
    if data.significance is None:
        return "not named: all images are scored"
    return f"{data.significance.n_scored:,} images are scored: those with trainings in and out"


def _trainings(data: RunArrays) -> list[tuple[str, str]]:
    """Lists how many trainings there are, and what the scored images are compared with."""
    roles, found = list(data.encoders.get("role", [])), data.significance
    if found is None:
        return []
    split = f"{roles.count('f')} with the candidates (f), {roles.count('g')} without (g)"
    trainings = split if found.design == "fixed" else f"{len(roles)}, each on images of its own"
    return [("Trainings", trainings), ("Control", control_words(found).removeprefix("Control: "))]


SECTION = Section("scope", "What was audited", order=10, data=_data)
