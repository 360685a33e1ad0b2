"""Scope of the audit, as a list of facts."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.section import ReportContext, Section


def _data(context: ReportContext) -> Mapping[str, object]:
    manifest, data = context.run.manifest, context.data
    views, reference = manifest.views, manifest.reference
    named = manifest.candidates is not None
    facts = [
        ("Encoder", manifest.encoder),
        ("Reference encoder", reference if reference else "none: SSLMem and LayerMem are not measured"),
        ("Images", f"{len(data.ids):,} from {manifest.data.source}"),
        ("Candidates", f"{int(data.candidate.sum()):,} images" if named else "not named: all images are scored"),
        ("Views", f"{views.n_views} of each image, “{views.transform}”, seed {views.seed}"),
        ("Layers", f"{len(data.units)}, {sum(len(layer.unit) for layer in data.units.values()):,} units"),
        ("SSLMem measured at", manifest.output),
    ]
    if manifest.data.skipped:
        facts.append(("Skipped", f"{len(manifest.data.skipped)} images that could not be read"))
    return {"facts": facts}


SECTION = Section("scope", "What was audited", order=10, data=_data)
