"""`memkern demo`: an audit of a pair, its folder, errors, exit codes."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memkern import cli
from memkern._util.files import write_json
from memkern.audit import read_run
from memkern.audit.measure import begun
from memkern.errors import PlanError, TrainingError
from memkern.lab import demo
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Sizes
from memkern.lab.encoder_pairs import TrainedPair, load_pair, train_pair
from memkern.lab.pair_scores import score_pair
from memkern.lab.training.recipe import Recipe

FILES = [
    "encoders.parquet", "groups.csv", "layers.parquet", "manifest.json", "plan.json", "readings", "report.html",
    "samples.parquet", "state.safetensors", "thumbs", "units.parquet", "views.json",
]  # fmt: skip


@pytest.fixture(autouse=True)
def offline(small_set: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line with the small set in place of the patches."""
    monkeypatch.setattr(demo, "patches", lambda: small_set)
    monkeypatch.setattr(demo, "QUICK_RECIPE", Recipe(epochs=1, batch=6))


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_demo_is_an_audit(
    stored: Path, small_set: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("demo", "--weights", stored, "--out", out, "--seed", 3) == 0
    printed = capsys.readouterr()
    assert f"Report: {out / 'report.html'}" in printed.out
    assert "candidate       6 images, seen by f alone" in printed.out
    assert "\x1b" not in printed.out + printed.err  # no terminal, no colors, no bars
    assert names(out) == FILES
    audit, pair = read_run(out), load_pair(stored)
    scores = score_pair(pair.f, pair.g, small_set, pair.split, pair.recipe.views, n_views=10, seed=3)
    group_of = {int(i): group for group, ids in pair.split.groups().items() for i in ids}
    sslmem = dict(zip(scores.ids.tolist(), scores.sslmem.tolist(), strict=True))
    samples = audit.samples.to_pydict()
    assert sorted(samples["index"]) == sorted(group_of)
    for row, index in enumerate(samples["index"]):
        name = small_set.label_names[samples["label"][row]]
        assert samples["id"][row] == f"{group_of[index]}/{name}/{index}"
        assert samples["group"][row] == group_of[index]
        assert samples["candidate"][row] == (group_of[index] == "candidate")
        assert samples["sslmem"][row] == pytest.approx(sslmem[index], abs=1e-6)
    layers = audit.layers.to_pydict()
    by_layer = dict(zip(layers["layer"], layers["layermem_candidates"], strict=True))
    assert by_layer.pop("pool") is not None  # where SSLMem is measured
    wanted = [layer.layermem["candidate"] for layer in scores.layers]
    assert list(by_layer.values()) == pytest.approx(wanted, abs=1e-6)
    assert f"mean {scores.mean('candidate'):+.4f}" in printed.out


def test_a_demo_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seeds: list[int] = []

    def train(data: ImageSet, seed: int, **options: Any) -> TrainedPair:
        seeds.append(seed)
        return train_pair(data, seed, **options, sizes=Sizes(2, 2, 2))

    monkeypatch.setattr(demo, "train_pair", train)
    assert run("demo", "--train", "--out", tmp_path / "out", "--seed", 1) == 0
    assert seeds == [1]
    assert "train g: epoch 1 of 1, loss " in capsys.readouterr().out
    manifest = read_run(tmp_path / "out").manifest
    assert manifest.options["weights"] == ["trained by this demo: f"]
    assert manifest.views.seed == 1


def test_a_demo_replaces_an_earlier_one_and_nothing_else(stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("demo", "--weights", stored, "--out", out) == 0
    (out / "notes.txt").write_text("mine")
    (out / "thumbs" / "stale.png").write_bytes(b"")
    assert run("demo", "--weights", stored, "--out", out, "--seed", 2) == 0
    assert names(out) == sorted([*FILES, "notes.txt"])
    assert read_run(out).manifest.views.seed == 2
    assert not (out / "thumbs" / "stale.png").exists()


def test_a_demo_replaces_one_of_version_0_1(stored: Path, tmp_path: Path) -> None:
    for name in ("groups.png", "images.parquet", "scores.safetensors"):
        (tmp_path / name).write_text("")
    written = dict.fromkeys(["groups.png", "images.parquet", "scores.safetensors"], "")
    write_json(tmp_path / "manifest.json", {"kind": "memkern demo", "files": written})
    demo.remove_earlier_demo(tmp_path)
    assert names(tmp_path) == ["pair"]


def test_an_audit_is_not_replaced(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("demo", "--weights", stored, "--out", out) == 0
    made = begun.read_plan(out)
    begun.write_plan(out, replace(made, about=replace(made.about, options={**made.about.options, "data": "images"})))
    capsys.readouterr()
    assert run("demo", "--weights", stored, "--out", out) == 1
    assert "choose another" in capsys.readouterr().err
    assert names(out) == FILES


def test_a_killed_demo_leaves_no_half_written_file(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        from memkern.audit.measure import finalize

        patched.setattr(finalize, "write_run", lambda *args, **options: signal.raise_signal(signal.SIGTERM))
        assert run("demo", "--weights", stored, "--out", out) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (out / "manifest.json").exists()
    assert not [name for name in names(out) if ".part" in name]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run("demo", "--weights", stored, "--out", out) == 0
    assert names(out) == FILES


def test_errors_are_one_line(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stored / "f.safetensors").write_bytes(b"")
    assert run("demo", "--weights", stored, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("memkern: error: ")
    assert "f.safetensors is damaged" in error
    assert error.count("\n") == 1
    with pytest.raises(TrainingError):
        run("demo", "--debug", "--weights", stored, "--out", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="got the file"):
        run("demo", "--debug", "--weights", stored, "--out", tmp_path / "file")


@pytest.mark.parametrize(
    "arguments", [[], ["dmeo"], ["demo", "--seed", "x"], ["demo", "--seed", "-1"], ["doctor", "x"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code == 2


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for word in ("memkern", "torch", "reference", "cpu", "scikit-image"):
        assert word in printed
