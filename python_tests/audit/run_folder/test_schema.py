"""The records of a RUN folder: the files of memkern 0.1.0 are read, those of a later memkern are refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import audit_helpers
import audit_runs
import pytest

from memkern.audit.measure.begun import read_plan
from memkern.audit.pipeline import run_audit
from memkern.audit.run_folder import schema
from memkern.audit.run_folder.reader import read_run
from memkern.errors import PlanError, RunFolderError

RECORDS = (
    schema.About, schema.CandidatesEntry, schema.DataEntry, schema.EncoderEntry, schema.EncoderPlan,
    schema.LayerPlan, schema.Manifest, schema.Plan, schema.PlanFile, schema.Significance, schema.ViewCall,
    schema.WeightsEntries, schema.WeightsEntry,
)  # fmt: skip


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_files_of_memkern_0_1_0_are_read(tmp_path: Path) -> None:
    """It wrote the same fields in the same order, and no format into plan.json."""
    given = audit_helpers.options(tmp_path)
    run = run_audit(given)
    assert run is not None
    path = given.out / "plan.json"
    old = json.loads(path.read_text())
    assert old.pop("format") == "memkern-plan-1"
    path.write_text(json.dumps(old))
    there = read_plan(given.out)
    assert there == schema.PlanFile(run.manifest.plan, there.about, there.images)
    listed = json.loads((given.out / "manifest.json").read_text())
    assert list(listed) == [
        "format", "complete", "versions", "encoder", "reference", "weights", "data", "candidates", "views", "options",
        "device", "precision", "backends", "encoders", "created", "layers", "output", "blocks", "wall", "shards",
        "plan", "significance", "files", "sha256",
    ]  # fmt: skip
    assert listed["format"] == "memkern-audit-2"
    assert list(listed["plan"]) == [
        "memkern", "torch", "encoder", "encoder_file", "weights", "reference", "data", "n_images", "labels",
        "candidates", "views", "transform", "size", "pairs", "normalize", "seed", "batch_size", "shard_size", "median",
        "precision", "device", "allow_nan", "layers", "output", "blocks", "encoders", "groups", "control",
        "level", "fdr", "distance", "contents", "versions", "keep",
    ]  # fmt: skip
    assert run.manifest.to_json() == listed


def test_what_a_later_memkern_wrote_is_refused(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    run_audit(given)
    edited(given.out / "manifest.json", format="memkern-audit-3")
    with pytest.raises(
        RunFolderError, match=r"manifest\.json .* 'memkern-audit-3', written by a later memkern; upgrade"
    ):
        read_run(given.out)
    edited(given.out / "plan.json", format="memkern-plan-9")
    with pytest.raises(PlanError, match=r"plan\.json .* got 'memkern-plan-9', written by a later memkern; upgrade"):
        read_plan(given.out)


def test_a_field_that_is_unknown_or_missing_is_named(tmp_path: Path) -> None:
    run = audit_runs.write(tmp_path, thumbs=False)
    path = run.folder / "manifest.json"
    whole = json.loads(path.read_text())
    edited(path, view=whole["views"])
    with pytest.raises(RunFolderError, match=r"has `view`, which a Manifest does not know; did you mean `views`\?"):
        read_run(run.folder)
    del whole["data"]["duplicates"]
    path.write_text(json.dumps(whole))
    with pytest.raises(
        RunFolderError, match=r"`data` of .*manifest\.json lacks `duplicates`, which every DataEntry has"
    ):
        read_run(run.folder)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_has_a_sentence(record: type) -> None:
    text = record.__doc__ or ""
    described = "Attributes:" in text
    names = [field.name for field in fields(record) if field.name in record.__annotations__]
    assert not described or all(f"\n        {name}: " in text for name in names), names
    assert described or len(names) < 3
