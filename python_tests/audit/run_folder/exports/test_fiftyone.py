"""FiftyOne's JSON: one sample per image, with its file, label, tags and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest

from memkern.audit.pipeline import merge_runs, run_audit


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


TYPES = {"StringField": str, "FloatField": float, "IntField": int}


def test_fields_are_those_that_fiftyone_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the layout of its `Dataset.to_dict`: each field beside the built-in ones has a type; files are absolute."""
    given = audit_helpers.options(tmp_path)
    monkeypatch.chdir(tmp_path)
    for part in (1, 2):  # paths as the user wrote them, relative
        run_audit(replace(given, data="data", out=tmp_path / f"part{part}", shard=(part, 2)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = merge_runs([tmp_path / "part1", tmp_path / "part2"], Path("merged"), exports=("fiftyone",))
    assert not any(Path(path).is_absolute() for path in run.samples["path"].to_pylist())
    whole = json.loads((elsewhere / "merged" / "fiftyone.json").read_text())
    assert (whole["name"], whole["media_type"], whole["num_samples"]) == ("merged", "image", 12)
    for sample in whole["samples"]:
        assert Path(sample["filepath"]).is_absolute()
        assert Path(sample["filepath"]).is_file()
        assert set(sample) - {"filepath", "tags"} == set(whole["sample_fields"])
        for name, kind in whole["sample_fields"].items():
            short = kind.rpartition(".")[2]
            if name == "ground_truth":
                assert kind == "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Classification)"
                assert sample[name]["_cls"] == "Classification"
            else:
                assert kind == f"fiftyone.core.fields.{short}"
                assert isinstance(sample[name], TYPES[short])
