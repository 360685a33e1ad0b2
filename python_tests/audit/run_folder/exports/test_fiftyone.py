"""FiftyOne's JSON: one sample per image, with its file, label, tags and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import audit_helpers

from memkern.audit.pipeline import run_audit


def test_fiftyone_samples(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    copy = Path(given.data) / "class1" / "copy.png"
    copy.write_bytes((Path(given.data) / "class0" / "00.png").read_bytes())
    run = run_audit(replace(given, exports=("fiftyone",), candidates="0:1"))
    assert run is not None
    assert run.manifest.data.duplicates == (("class0/00.png", "class1/copy.png", "exact"),)
    whole = json.loads((run.folder / "fiftyone.json").read_text())
    first = whole["samples"][0]
    assert first["filepath"].endswith("class0/00.png")
    assert first["tags"] == ["candidate"]
    assert first["ground_truth"] == {"_cls": "Classification", "label": "class0"}
    assert first["memkern_sslmem"] == run.samples["sslmem"][0].as_py()
    assert next(s for s in whole["samples"] if s["memkern_id"] == "class1/copy.png")["tags"] == ["exact-copy"]
    assert sum(sample["memkern_units"] for sample in whole["samples"]) == run.units.num_rows


def test_units_are_those_of_the_first_encoder(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    run = run_audit(replace(given, exports=("fiftyone",), weights=(*given.weights, *given.reference), reference=None))
    assert run is not None
    assert set(run.units["encoder"].to_pylist()) == {"f1", "f2"}
    samples = json.loads((run.folder / "fiftyone.json").read_text())["samples"]
    assert sum(sample["memkern_units"] for sample in samples) == run.units.num_rows // 2
