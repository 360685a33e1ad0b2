"""Encoders of several architectures, and families that are refused before the long work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from audit_helpers import arguments, family, listed, net, options

from memkern import cli
from memkern.audit.measure import run_shards
from memkern.audit.measure.reading_files import read_reading
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, run_audit
from memkern.audit.run_folder.reader import read_run
from memkern.errors import MemkernError, WeightsError

MEMBERS = ("0:6", "3:9", "1:12")


def refused(given: Options, monkeypatch: pytest.MonkeyPatch) -> str:
    def never(*arguments: Any) -> None:
        raise AssertionError("the long work has begun")

    monkeypatch.setattr(run_shards, "measure_shard", never)
    with pytest.raises(MemkernError) as error:
        run_audit(given)
    assert not given.out.exists()
    return str(error.value)


def test_designs_in_which_nothing_can_be_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = family(tmp_path, 2, 2)
    twice = refused(replace(given, weights=(given.weights[0],) * 2), monkeypatch)
    assert twice.startswith("Expected each training once, got the same weights for f1 (")
    assert twice.endswith("): leave one of them out")
    small = refused(replace(given, control="extra"), monkeypatch)
    assert small.startswith("Expected at least 30 'extra' images as control, ")
    assert "with --control shared" in refused(replace(given, groups=None, control="shared"), monkeypatch)
    groups = tmp_path / "groups.csv"
    groups.write_text(groups.read_text().replace("candidate", "shared"))
    assert refused(given, monkeypatch).startswith("No image can be scored: expected candidates")
    assert refused(listed(tmp_path, ("0:4", "0:4")), monkeypatch).startswith(
        "Expected encoders that differ in the images"
    )
    assert refused(listed(tmp_path, ("", "0:99")), monkeypatch).startswith(
        "Expected `members` of encoder 'e1' to be a range of positions within 0:12"
    )


def test_one_training_in_two_files_is_found_in_a_dry_run(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 2)
    state = {f"module.{name}": value for name, value in net(10).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "again.pt")
    with pytest.raises(WeightsError, match=r"Expected each training once, got the same weights for f1 .* and f3 "):
        dry_run(replace(given, weights=(*given.weights, str(tmp_path / "again.pt"))))
    with pytest.raises(WeightsError, match="Expected --reference to be another encoder than --weights, got the same w"):
        dry_run(replace(given, reference=str(tmp_path / "again.pt")))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = family(tmp_path, 2, 2)
    assert cli.main(arguments(given)) == 0
    assert [each.name for each in read_run(given.out).manifest.encoders] == ["f1", "f2", "g1", "g2"]
    again = [each.n_members for each in read_run(given.out).manifest.encoders]
    assert again == [6, 6, 6, 6], "three candidates or independents, and three shared"
    assert read_run(given.out).manifest.reference == ", ".join(given.reference)
    one_by_one = [
        *arguments(replace(given, weights=given.weights[:1], out=tmp_path / "one")),
        "--weights",
        given.weights[1],
    ]
    assert cli.main(one_by_one) == 0
    assert read_run(tmp_path / "one").manifest.plan == read_run(given.out).manifest.plan
    varying = listed(tmp_path, MEMBERS, out=tmp_path / "varying")
    assert cli.main(arguments(varying)) == 0
    run = read_run(varying.out)
    assert [(each.name, each.role, each.n_members) for each in run.manifest.encoders] == [
        ("e0", "", 6), ("e1", "", 6), ("e2", "", 11)
    ]  # fmt: skip
    assert run.manifest.reference == varying.encoders
    assert cli.main([*arguments(replace(varying, out=tmp_path / "dry")), "--dry-run"]) == 0
    assert not (tmp_path / "dry").exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoders": "list.csv"}, "Expected `encoders` alone, got `encoder` as well: "),
        ({"encoder": ""}, "Expected `encoder`: an encoder and its weights, or `encoders`, a file that lists several"),
        ({"weights": None}, "Expected `weights`: an encoder and its weights, or `encoders`"),
        ({"groups": "a.csv", "candidates": "0:3"}, "Expected `groups` or `candidates`, got both: "),
        ({"control": "others"}, "Expected `control` to be one of 'auto', 'extra', 'shared', 'none', got 'others'"),
        ({"level": "off"}, "Expected `level` to be one of 'auto', 'none', got 'off'"),
        ({"fdr": 0}, "Expected `fdr` to be between 0 and 1, 0.05 say, got 0"),
        ({"fdr": "5%"}, "Expected `fdr` to be a number, got '5%'"),
    ],
)
def test_options_of_families_are_checked_first(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        replace(options(tmp_path), **changes)
    assert str(raised.value).startswith(message)


WIDE = "from audit_helpers import Net\n\ndef build():\n    return Net(width=5)\n"
OTHER = """
from audit_helpers import Net
from torch import nn

class build(Net):
    def __init__(self):
        super().__init__()
        self.extra = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return self.extra(self.deep(self.relu(self.conv(x)))).mean((2, 3))
"""


@pytest.mark.parametrize("code", [WIDE, OTHER])
def test_encoders_of_several_architectures(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    from memkern.audit.encoders.build import build_encoder

    given = listed(tmp_path, MEMBERS)
    (tmp_path / "other.py").write_text(code)
    other = f"py:{tmp_path / 'other.py'}:build"
    save_file(build_encoder(other).state_dict(), str(tmp_path / "other.safetensors"))
    path = Path(str(given.encoders))
    path.write_text(path.read_text() + f"other,{other},{tmp_path / 'other.safetensors'},0:5\n")
    if code is OTHER:
        text = refused(given, monkeypatch)
        assert text.startswith("Expected every encoder to have the layers of e0; other ")
        assert text.endswith(
            "name layers that all have with --layers, or measure the output alone with --layers output"
        )
        monkeypatch.undo()
        given = replace(given, layers="output")
    run = run_audit(given)
    assert run is not None
    plan = run.manifest.plan
    of_other = plan.encoders[-1]
    assert plan.encoder == f"{plan.encoders[0].encoder}, {other}"
    assert len(of_other.units) == len(plan.layers)
    if code is WIDE:
        assert of_other.units != plan.encoders[0].units, "units may differ, names may not"
    found = read_reading(given.out, "other", 0)
    assert found.alignment.shape[0] == len(plan.layers)
    assert len(found.units["peak"]) == sum(of_other.units)
