"""What to fine-tune and what to prune: the choice, how sure it is, and that the interventions take it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import norm, t

from memkern import cli
from memkern.audit import Options, Run, advise_layers, advise_units, finetune_layers, prune_units, read_run, run_audit
from memkern.audit.encoders.build import build_encoder
from memkern.audit.interventions import advise
from memkern.errors import DataError
from memkern.lab.encoders.resnet9 import TAPS

ENCODER = "memkern:resnet9?width=2"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An audit of four encoders with random weights on random halves of 24 images."""
    folder = tmp_path_factory.mktemp("audited")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
    np.savez(folder / "images.npz", images=images.numpy(), labels=np.arange(24) % 3)
    lines = ["name,encoder,weights,members"]
    for k in range(4):
        torch.manual_seed(k)
        save_file(build_encoder(ENCODER).state_dict(), folder / f"e{k}.safetensors")
        members = torch.randperm(24, generator=generator)[:12]
        (folder / f"e{k}.txt").write_text("\n".join(map(str, members.tolist())))
        lines.append(f"e{k},{ENCODER},e{k}.safetensors,e{k}.txt")
    (folder / "encoders.csv").write_text("\n".join(lines))
    run = run_audit(
        Options(
            encoders=str(folder / "encoders.csv"), data=str(folder / "images.npz"), out=folder / "run", views=2,
            layers=",".join(TAPS.values()), output="pool", images=False, device="cpu",
        )
    )  # fmt: skip
    assert run is not None
    return run


def test_the_layers_are_those_with_the_highest_excess(audited: Run) -> None:
    found = advise_layers(audited, 3)
    table = dict(zip(audited.layers["layer"].to_pylist(), audited.layers["layermem_excess"].to_pylist(), strict=True))
    with_weights = {name: value for name, value in table.items() if name not in ("res2", "res6", "pool")}
    best = sorted(with_weights, key=lambda name: -with_weights[name])
    assert [each.layer for each in found.layers] == best[:3]
    assert f"The next is {best[3]}" in found.notes[0]
    assert finetune_layers(build_encoder(ENCODER), found.to_dict()["layers"]).groups
    for each in found.layers:
        assert each.low < each.excess < each.high
        assert each.apart is False, "encoders that were never trained"


def test_the_units_are_the_most_selective_of_each_layer(audited: Run) -> None:
    found = advise_units(audited, 0.25, encoder="e2")
    assert [each.layer for each in found.units] == [name for name in TAPS.values() if not name.startswith("res")]
    units = audited.units.to_pandas()
    samples = audited.samples.to_pandas().set_index("index")
    for each in found.units:
        own = units[(units.encoder == "e2") & (units.layer == each.layer)]
        ranked = own[~own.signed].sort_values("unitmem", ascending=False, kind="stable")
        count = max(1, round(0.25 * len(own)))
        assert each.units == tuple(ranked.unit[:count])
        assert each.unitmem == pytest.approx(ranked.unitmem.iloc[count - 1])
        assert each.next == pytest.approx(ranked.unitmem.iloc[count])
        seen = samples["member/e2"]
        assert each.members == pytest.approx(np.mean([seen[image] for image in ranked.peak_index[:count]]))
        assert each.expected == pytest.approx(np.mean([seen[image] for image in own.peak_index]))
    with prune_units(build_encoder(ENCODER), found.to_dict()["units"]) as surgery:
        assert surgery.changed


def test_the_first_encoder_and_some_layers(audited: Run) -> None:
    assert advise_units(audited, 1.0).encoder == "e0"
    found = advise_units(audited, 1.0, layers="conv3, conv4_?")
    assert [each.layer for each in found.units] == ["conv3", "conv4_0", "conv4_1", "conv4_2"]
    assert np.isnan(found.units[0].next)
    assert found.to_dict()["why"][0]["next"] is None
    assert advise_layers(audited, 1, layers="conv1").layers[0].apart is None


def table(**columns: list[float]) -> SimpleNamespace:
    """The layers of an audit with a control, as numbers."""
    names = [f"layer{i}" for i in range(len(columns["layermem_excess"]))]
    return SimpleNamespace(
        layers={"layer": names}, significance=SimpleNamespace(method="moderated t"),
        column=lambda name: np.array(columns[name]),
    )  # fmt: skip


def advised(monkeypatch: pytest.MonkeyPatch, numbers: SimpleNamespace, n: int) -> advise.Advice:
    monkeypatch.setattr(advise, "read_arrays", lambda run: numbers)
    monkeypatch.setattr(advise, "_modules", lambda *arguments: (lambda layer: True, []))
    return advise_layers(SimpleNamespace(folder="run"), n)  # type: ignore[arg-type]


def test_intervals_hold_for_all_layers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors 0.01 with 7 degrees of freedom, three layers: by hand, with the quantile at 1 - 0.05 / 6."""
    reach = t.ppf(0.975, 7) * 0.01
    numbers = table(layermem_excess=[0.0, 0.2, 0.1], se=[0.01] * 3, high=[reach, 0.2 + reach, 0.1 + reach])
    best = advised(monkeypatch, numbers, 1).layers[0]
    assert (best.layer, best.apart) == ("layer1", True)
    assert best.high - best.excess == pytest.approx(t.ppf(1 - 0.05 / 6, 7) * 0.01, rel=1e-6)
    assert best.excess - best.low == pytest.approx(best.high - best.excess)


@pytest.mark.parametrize(("gap", "apart"), [(1.01, True), (0.99, False)])
def test_two_layers_are_told_apart_over_all_pairs(gap: float, apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers are three pairs, two-sided: the normal quantile at 1 - 0.05 / 6, of errors 0.01 and 0.02."""
    step = gap * norm.ppf(1 - 0.05 / 6) * np.hypot(0.01, 0.02)
    excess = [0.1 + step, 0.1, -1.0]
    numbers = table(layermem_excess=excess, se=[0.01, 0.02, 0.01], high=[each + 0.02 for each in excess])
    assert advised(monkeypatch, numbers, 1).layers[0].apart is apart


def test_one_pair_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = table(layermem_excess=[0.2, 0.1], se=[np.nan] * 2, high=[np.nan] * 2)
    found = advised(monkeypatch, numbers, 1)
    assert found.layers[0].apart is None
    assert np.isnan(found.layers[0].low)
    assert "There is no error" in found.notes[-1]
    assert found.to_dict()["why"][0]["low"] is None


def test_of_a_block_and_a_layer_inside_it_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = table(layermem_excess=[0.2, 0.3, 0.1], se=[0.01] * 3, high=[0.22, 0.32, 0.12])
    numbers.layers["layer"] = ["blocks.1.mlp", "blocks.1", "blocks.10"]
    assert [each.layer for each in advised(monkeypatch, numbers, 2).layers] == ["blocks.1", "blocks.10"]


@pytest.mark.parametrize("call", [lambda run: advise_layers(run, 0), lambda run: advise_layers(run, 99)])
def test_how_many_layers(call: Any, audited: Run) -> None:
    with pytest.raises(ValueError, match=r"Expected `n` in \[1, 8\], the layers to choose from, got (0|99)"):
        call(audited)


def test_wrong_arguments(audited: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"Expected `share` in \(0, 1\]"):
            advise_units(audited, share)
    with pytest.raises(ValueError, match="Expected `encoder` to be in the audit, got 'e9'; its encoders are e0, e1"):
        advise_units(audited, 0.1, encoder="e9")
    with pytest.raises(ValueError, match="Expected `layers` to match a layer whose units can be pruned, got 'res2'"):
        advise_units(audited, 0.1, layers="res2")
    numbers = table(layermem_excess=[0.2], se=[0.1], high=[0.3])
    numbers.significance.method = "none"
    with pytest.raises(DataError, match="Expected an audit with a control"):
        advised(monkeypatch, numbers, 1)


def test_command_line(audited: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "advice.json"
    assert cli.main(["advise", str(audited.folder), "--finetune", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("not told apart from the next") == 2
    assert json.loads(out.read_text())["layers"] == [each.layer for each in advise_layers(audited, 2).layers]
    assert cli.main(["advise", str(audited.folder), "--prune", "0.1", "--json", "--layers", "conv3"]) == 0
    assert list(json.loads(capsys.readouterr().out)["units"]) == ["conv3"]
    for wrong in ([], ["--finetune", "1", "--prune", "0.1"]):
        with pytest.raises(SystemExit):
            cli.main(["advise", str(audited.folder), *wrong])
    assert cli.main(["advise", str(tmp_path), "--finetune", "1"]) == 1
    assert "manifest.json" in capsys.readouterr().err


def test_an_encoder_that_cannot_be_built_is_noted(audited: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(text: str) -> None:
        raise FileNotFoundError(text)

    monkeypatch.setattr(advise, "build_encoder", gone)
    found = advise_layers(read_run(audited.folder), 9)
    assert "Layers without parameters may be among them" in found.notes[0]
