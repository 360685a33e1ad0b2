"""What was audited, as a list of facts."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.report.section import ReportContext, Section


def _data(context: ReportContext) -> Mapping[str, object]:
    manifest, data = context.run.manifest, context.data
    views = manifest.get("views") or {}
    source = manifest.get("data") or {}
    named = manifest.get("candidates")
    reference = manifest.get("reference")
    facts = [
        ("Encoder", str(manifest.get("encoder") or "unknown")),
        ("Reference encoder", str(reference) if reference else "none: SSLMem and LayerMem are not measured"),
        ("Images", f"{len(data.ids):,} from {source.get('source') or 'unknown'}"),
        ("Candidates", f"{int(data.candidate.sum()):,} images" if named else "not named: all images are scored"),
        ("Views", f"{views.get('n_views')} of each image, “{views.get('transform')}”, seed {views.get('seed')}"),
        ("Layers", f"{len(data.units)}, {sum(len(layer.unit) for layer in data.units.values()):,} units"),
        ("SSLMem measured at", str(manifest.get("output"))),
    ]
    skipped = source.get("skipped") or []
    if skipped:
        facts.append(("Skipped", f"{len(skipped)} images that could not be read"))
    return {"facts": facts}


SECTION = Section("scope", "What was audited", order=10, data=_data)
