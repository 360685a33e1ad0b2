"""Encoders that are left out of an audit that goes on: nothing is read again, and nothing is lost without need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest
import torch
from audit_helpers import contents, family, listed
from safetensors.torch import save_file

from memkern.audit.measure import run_shards
from memkern.audit.pipeline import run_audit
from memkern.errors import DataError, PlanError

MEMBERS = ("0:6", "3:9", "1:12")


def never(*arguments: object, **more: object) -> None:
    raise AssertionError("an encoder is read that was read before")


@pytest.mark.parametrize("killed_before", [False, True])
def test_encoders_that_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: bool) -> None:
    shorter, given = (listed(tmp_path, members) for members in (MEMBERS, (*MEMBERS, "0:5")))
    run_audit(given)
    if killed_before:  # as it was before the last readings
        for path in [*given.out.glob("readings/e[13]/*2.safetensors"), given.out / "manifest.json"]:
            path.unlink()
    with monkeypatch.context() as patch:
        if not killed_before:
            patch.setattr(run_shards, "measure_shard", never)
        run = run_audit(replace(shorter, resume=True))
    assert run is not None
    assert [each.name for each in run.manifest.encoders] == ["e0", "e1", "e2"]
    whole = replace(shorter, out=tmp_path / "whole")
    run_audit(whole)
    assert contents(run.folder) == contents(whole.out)
    if not killed_before:
        monkeypatch.setattr(run_shards, "measure_shard", never)
        back = run_audit(replace(given, resume=True))  # what was left out is not lost
        assert back is not None
        assert len(back.manifest.encoders) == 4


def test_an_encoder_that_is_left_out_gives_its_name_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = family(tmp_path, 3, 1)
    run_audit(given)
    shorter = replace(given, weights=given.weights[1:])
    with monkeypatch.context() as patch:
        patch.setattr(run_shards, "measure_shard", never)
        run_audit(replace(shorter, resume=True))
    whole = replace(shorter, out=tmp_path / "whole")
    run_audit(whole)
    assert contents(given.out) == contents(whole.out)
    other = replace(given, weights=(*given.weights[:1], given.reference[0]), reference=given.weights[1:2], resume=True)
    with pytest.raises(PlanError, match="use another --out"):  # neither longer nor shorter
        run_audit(other)


def test_two_checkpoints_of_a_training_are_found_late_and_cost_nothing_to_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = (*MEMBERS, "0:5")
    shorter, given = listed(tmp_path, members[:3]), listed(tmp_path, members)
    net = audit_helpers.net(30)
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(1 + 1e-6)
    save_file(net.state_dict(), tmp_path / "listed" / "e3.safetensors")
    with pytest.raises(DataError, match="leave one of them out and go on with --resume: what was read of the others"):
        run_audit(given)
    monkeypatch.setattr(run_shards, "measure_shard", never)
    assert run_audit(replace(shorter, resume=True)) is not None
