"""`memkern demo`: an audit of a family, its folder, errors, exit codes."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memkern import cli
from memkern._util.files import sha256, write_json
from memkern.audit import read_run
from memkern.audit.measure import begun
from memkern.errors import PlanError, TrainingError
from memkern.lab import demo
from memkern.lab.family import IMAGES, read_family

FILES = [
    "encoders.parquet", "layers.parquet", "manifest.json", "plan.json", "readings", "report.html", "samples.parquet",
    "state.safetensors", "thumbs", "units.parquet",
]  # fmt: skip


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_demo_is_an_audit_of_a_family(
    stored_family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, by_hand = tmp_path / "out", tmp_path / "by-hand"
    assert run("demo", "--family", stored_family, "--out", out, "--seed", 3) == 0
    printed = capsys.readouterr()
    assert f"Report, with pictures: {out / 'report.html'}" in printed.out
    assert printed.out.strip().startswith(read_run(out).manifest.significance.verdict)
    assert "\x1b" not in printed.out + printed.err  # no terminal, no colors, no bars
    assert names(out) == FILES
    layers, output = demo.audited_layers("resnet9-narrow", 32)
    line = ["audit", "--encoders", stored_family / "encoders.csv", "--data", stored_family / IMAGES, "--transform"]
    line += [stored_family / "views.json", "--layers", ",".join(layers), "--output", output, "--seed", 3]
    assert run(*line, "--out", by_hand) == 0
    ours, theirs = read_run(out), read_run(by_hand)
    assert ours.samples.column("sslmem").equals(theirs.samples.column("sslmem"))
    assert ours.manifest.data.classes == ("a_x", "b_y", "c_z")


def test_the_images_that_are_called_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("12", 1, 0.25, 0.03, 0.04, 1e-5), ("7", 0, 0.1, 0.02, 0.0, 0.04)]
    assert list(demo._table(rows, ("bag", "boot"))) == [
        "image   12  boot         SSLMem +0.250 ± 0.050  q = 1e-05",
        "image    7  bag          SSLMem +0.100 ± 0.020  q = 0.04",
    ]


def test_the_shipped_family_is_small_whole_and_memorizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the front page says; a few views are enough to see it."""
    about = read_family(demo.ASSETS)
    assert sum(path.stat().st_size for path in demo.ASSETS.rglob("*") if path.is_file()) < 8 * 2**20
    assert len(about.files) == 17
    assert {name: sha256(demo.ASSETS / name) for name in about.files} == about.files
    assert "MIT" in (demo.ASSETS / "LICENSE-fashion-mnist").read_text()
    assert about.recipe.encoder == "resnet9-narrow"
    found = demo.run_demo(tmp_path / "out", n_views=3, log=lambda text: None)
    significance = found.manifest.significance
    assert significance is not None
    assert significance.n_memorized is not None
    assert significance.n_memorized >= 10
    memorized = np.array(found.samples["memorized"].to_pylist(), dtype=bool)
    assert memorized.sum() == significance.n_memorized


def test_a_demo_replaces_an_earlier_one_and_nothing_else(stored_family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("demo", "--family", stored_family, "--out", out) == 0
    (out / "notes.txt").write_text("mine")
    (out / "thumbs" / "stale.png").write_bytes(b"")
    assert run("demo", "--family", stored_family, "--out", out, "--seed", 2) == 0
    assert names(out) == sorted([*FILES, "notes.txt"])
    assert read_run(out).manifest.views.seed == 2
    assert not (out / "thumbs" / "stale.png").exists()


def test_a_demo_replaces_one_of_version_0_1(stored_family: Path, tmp_path: Path) -> None:
    for name in ("groups.png", "images.parquet", "scores.safetensors"):
        (tmp_path / name).write_text("")
    written = dict.fromkeys(["groups.png", "images.parquet", "scores.safetensors"], "")
    write_json(tmp_path / "manifest.json", {"kind": "memkern demo", "files": written})
    demo.remove_earlier_demo(tmp_path)
    assert names(tmp_path) == ["family"]


def test_an_audit_is_not_replaced(stored_family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("demo", "--family", stored_family, "--out", out) == 0
    made = begun.read_plan(out)
    begun.write_plan(out, replace(made, about=replace(made.about, options={**made.about.options, "data": "images"})))
    capsys.readouterr()
    assert run("demo", "--family", stored_family, "--out", out) == 1
    assert "choose another" in capsys.readouterr().err
    assert names(out) == FILES


def test_a_killed_demo_leaves_no_half_written_file(
    stored_family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        from memkern.audit.measure import finalize

        patched.setattr(finalize, "write_run", lambda *args, **options: signal.raise_signal(signal.SIGTERM))
        assert run("demo", "--family", stored_family, "--out", out) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (out / "manifest.json").exists()
    assert not [name for name in names(out) if ".part" in name]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run("demo", "--family", stored_family, "--out", out) == 0
    assert names(out) == FILES


def test_errors_are_one_line(stored_family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = stored_family / "e1.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run("demo", "--family", stored_family, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"memkern: error: Expected {weights} to be the file")
    assert error.endswith("it is missing or damaged\n")
    assert error.count("\n") == 1
    weights.write_bytes(whole)
    with pytest.raises(TrainingError, match=r"got no family\.json in it"):
        run("demo", "--debug", "--family", tmp_path, "--out", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="got the file"):
        run("demo", "--debug", "--family", stored_family, "--out", tmp_path / "file")
    (stored_family / IMAGES).unlink()
    with pytest.raises(TrainingError, match=r"images\.npz to be the file"):
        run("demo", "--debug", "--family", stored_family, "--out", tmp_path / "out")


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
