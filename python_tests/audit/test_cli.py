"""`memkern audit` and `memkern merge`: what they print, write and refuse, word for word, with their exit codes."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch

from memkern import cli
from memkern.audit.data.source import from_arrays
from memkern.audit.measure import run_shards
from memkern.audit.measure.batch_size import images_per_pass
from memkern.audit.measure.prepare import prepare
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, run_audit
from memkern.audit.run_folder.reader import read_run


@pytest.fixture
def given(tmp_path: Path) -> Options:
    return audit_helpers.options(tmp_path)


def error(capsys: pytest.CaptureFixture[str], line: list[str]) -> str:
    """The one line that a failing command prints."""
    assert cli.main(line) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text.removeprefix("memkern: error: ").removesuffix("\n")


# ---- what is printed and written ------------------------------------------------------------------------------------


def test_a_whole_audit(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*audit_helpers.arguments(given), "--candidates", "0:6"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    for text in ("LayerMem of 6 candidates", "conv", "SSLMem at output", f"results are in {given.out}"):
        assert text in out
    assert "\r" not in out, "no bars without a terminal"
    run = read_run(given.out)
    manifest = run.manifest
    assert manifest.complete
    assert manifest.encoder == given.encoder
    assert manifest.candidates is not None
    assert manifest.candidates.n == 6
    assert manifest.data.classes == ("class0", "class1", "class2")
    assert manifest.weights.g is not None
    assert manifest.weights.f.sha256 != manifest.weights.g.sha256
    assert manifest.views.spec.flip == 0.5
    assert set(manifest.wall) == {"load", "views", "forward", "metrics", "write", "total"}
    assert manifest.layers[0].to_json() == {"name": "conv", "units": 4, "points": 12, "shape": [4, 3, 3]}
    assert [row["layer"] for row in run.layers.to_pylist()] == run.layer_names == ["conv", "relu", "deep", "output"]
    json.dumps(manifest.to_json(), allow_nan=False)


def test_without_a_reference(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(audit_helpers.arguments(replace(given, reference=None))) == 0
    out = capsys.readouterr().out
    assert "No --reference encoder: SSLMem and LayerMem compare two encoders and are left out" in " ".join(out.split())
    run = read_run(given.out)
    assert run.samples["sslmem"].null_count == 12
    assert run.layers["layermem"].null_count == 4
    assert "alignment_g/conv" not in run.samples.column_names
    assert run.units["classmem"].null_count == 0
    assert run.manifest.reference is None


def test_dry_run_writes_nothing(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*audit_helpers.arguments(given), "--dry-run", "--median"]) == 0
    out = capsys.readouterr().out
    assert "4 layers" in out
    assert "output (output)" in out
    assert "12 images, 3 views of 8x8 pixels each, 2 images per forward pass, 20 units" in out
    assert re.search(r"Time: about [\d.]+ s \(load .*, views .*, forward .*, metrics .*\)", out)
    assert re.search(r"Memory: [\d.]+ [MG]B at the peak, and 384 bytes of results", out)
    assert "--median keeps one number per image, unit and encoder: 2 kB on disk, 288 bytes in memory" in out
    assert not given.out.exists()


@pytest.mark.parametrize(
    ("changes", "batch_size"),
    [
        ({"views": 10, "size": 32}, 64),
        ({"views": 10, "size": 8}, 64),
        ({"views": 10, "size": 64}, 16),
        ({"views": 10, "size": 96}, 7),
        ({"views": 10, "size": 224}, 2),
        ({"views": 2, "size": 32}, 320),
        ({"views": 9, "size": 32, "pairs": "anchor"}, 64),  # with the clean image
        ({"views": 100, "size": 224}, 1),
        ({"views": 10, "size": 32, "batch_size": 5}, 5),
    ],
)
def test_images_of_a_pass_go_by_the_size_of_a_view(given: Options, changes: dict[str, Any], batch_size: int) -> None:
    assert prepare(replace(given, device="cpu", **{"batch_size": None, **changes})).job.batch_size == batch_size


def test_a_pass_on_a_gpu_takes_more(given: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "torch_device", lambda self: torch.device("cuda"))
    options = replace(given, views=10, batch_size=None)
    assert images_per_pass(options, (32, 32)) == 256
    assert images_per_pass(options, (224, 224)) == 32


def test_the_command_chooses_the_images_of_a_pass(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    line = audit_helpers.arguments(given)
    at = line.index("--batch-size")
    assert cli.main([*line[:at], *line[at + 2 :], "--device", "cpu", "--dry-run"]) == 0
    assert "213 images per forward pass" in capsys.readouterr().out


def test_file_names_are_not_commands(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    victim = next((Path(given.data) / "class0").iterdir())
    victim.rename(victim.with_name("[red]\x1b]0;owned\x07[b].png"))
    assert cli.main([*audit_helpers.arguments(given), "--candidates", "3:4"]) == 0
    out = capsys.readouterr().out
    assert "class0/[red]\\x1b]0;owned\\x07[b].png" in out
    assert "\x07" not in out


def test_pictures_for_the_report(given: Options) -> None:
    from PIL import Image

    run = run_audit(replace(given, images=True))
    assert run is not None
    pictures = sorted(path.name for path in (run.folder / "thumbs").iterdir())
    assert len(pictures) == 12 * 4
    assert pictures[:4] == ["0-view0.png", "0-view1.png", "0-view2.png", "0.png"]
    stored = torch.from_numpy(np.array(Image.open(run.folder / "thumbs" / "0.png")))
    original = torch.from_numpy(np.array(Image.open(Path(given.data) / run.samples["id"][0].as_py())))
    assert torch.equal(stored, original)


def test_one_line_of_polars_reads_a_run(given: Options) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    run_audit(given)
    assert polars.read_parquet(given.out / "samples.parquet").sort("sslmem", descending=True).height == 12


def test_one_line_of_duckdb_reads_a_run(given: Options) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    run_audit(given)
    rows = duckdb.sql(f"select id, sslmem from '{given.out}/samples.parquet' order by sslmem desc limit 10").fetchall()
    assert len(rows) == 10


# ---- in memory, other precisions ------------------------------------------------------------------------------------


def test_modules_and_arrays_in_memory(tmp_path: Path) -> None:
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options = Options(encoder="mine", weights="", data="", out=tmp_path / "run", views=2, batch_size=4, images=False)
    nets = audit_helpers.net(1), audit_helpers.net(2)
    run = run_audit(options, encoders=nets, source=from_arrays(images, [0, 1, 0, 1, 0, 1]))
    assert run is not None
    assert run.samples["id"].to_pylist() == list("012345")
    assert run.samples["sslmem"].null_count == 0
    with pytest.raises(ValueError, match="Expected `weights` to be "):
        run_audit(replace(options, resume=True), encoders=nets[::-1], source=from_arrays(images, [0, 1] * 3))


def test_bf16_is_close_and_said(given: Options, tmp_path: Path) -> None:
    whole = run_audit(given)
    half = run_audit(replace(given, precision="bf16", out=tmp_path / "half"))
    assert whole is not None
    assert half is not None
    assert half.manifest.precision == "bf16"
    a, b = (np.array(run.samples["alignment_f/conv"].to_pylist()) for run in (whole, half))
    assert 0 < np.abs(a - b).max() < 2**-8 * 4, "bf16 keeps 8 bits"


@pytest.mark.parametrize(("machine", "capability", "warned"), [
    ("x86_64", "AVX2", True), ("x86_64", "AVX512", False), ("aarch64", "DEFAULT", False),
])  # fmt: skip
def test_bf16_that_a_processor_lacks(
    given: Options, monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, warned: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    said: list[str] = []
    dry_run(replace(given, precision="bf16", device="cpu"), log=said.append)
    assert any("no bfloat16 instructions" in each for each in said) == warned
    said.clear()
    dry_run(replace(given, device="cpu"), log=said.append)
    assert not any("bfloat16" in each for each in said)


def test_float64_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 3))
    options = Options(encoder="mine", weights="", data="", out=tmp_path / "a", views=2, shard_size=2, images=False)
    nets = audit_helpers.net(1), audit_helpers.net(1)
    before = torch.get_rng_state()
    runs = [
        run_audit(replace(options, out=tmp_path / name), encoders=nets, source=from_arrays(images)) for name in "ab"
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(run is not None for run in runs)
    scores = [run.samples["sslmem"].to_pylist() for run in runs if run is not None]
    assert scores[0] == scores[1] == [0.0] * 5


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 1}, "Expected `views` to be 2 or more, got 1"),
        ({"batch_size": 0}, "Expected `batch_size` to be 1 or more, got 0"),
        ({"shard_size": 1.5}, "Expected `shard_size` to be a whole number, got 1.5"),
        ({"seed": -1}, "Expected `seed` to be 0 or more, got -1"),
        ({"pairs": "some"}, "Expected `pairs` to be one of 'all', 'anchor', got 'some'"),
        ({"precision": "fp8"}, "Expected `precision` to be one of 'fp32', 'bf16', got 'fp8'"),
        ({"shard": (3, 2)}, "Expected `shard` to be i/n with 1 <= i <= n, got 3/2"),
        ({"device": "tpu9"}, "Expected `device` to be auto, cpu, cuda or cuda:N, got 'tpu9'"),
        ({"transform": "no.json"}, "Expected `transform` to be a preset or a JSON file, got 'no.json'; no such file"),
    ],
)
def test_options_are_checked_first(given: Options, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as raised:
        replace(given, **changes)
    assert str(raised.value) == message


def test_a_transform_from_a_file(given: Options, tmp_path: Path) -> None:
    path = tmp_path / "views.json"
    path.write_text('{"flip": 1.0, "scale": [0.5, 1.0], "brightness": 0.4}')
    spec = replace(given, transform=str(path), mean=(0.1, 0.2, 0.3), size=16).spec()
    assert (spec.flip, spec.scale, spec.mean, spec.size) == (1.0, (0.5, 1.0), (0.1, 0.2, 0.3), (16, 16))
    path.write_text('{"flop": 1.0}')
    with pytest.raises(ValueError, match=r"to hold fields of a ViewSpec, got \['flop'\]"):
        replace(given, transform=str(path))


def test_mistakes_are_found_before_the_long_work(
    given: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("the long work has begun")

    monkeypatch.setattr(run_shards, "measure_shard", never)
    line = audit_helpers.arguments(given)

    def refused(*more: str, without: str = "") -> str:
        given_line = list(line)
        if without:
            at = given_line.index(without)
            del given_line[at : at + 2]
        return error(capsys, [*given_line, *more]).replace(str(tmp_path), "T")

    same = refused("--reference", given.weights[0], without="--reference")
    assert same == (
        "Expected --reference to be another encoder than --weights, got the same weights in T/weights/f.safetensors "
        "and T/weights/f.safetensors"
    )
    assert refused("--weights", "no.pt") == "Expected a file of weights, got 'no.pt'; there is no such file"
    assert refused("--transform", "simclrr").startswith("Expected `transform` to be one of 'weak', 'normal', ")
    assert refused("--layers", "conv9").startswith(
        "Expected `layers` to name layers that run in the forward pass, got 'conv9'; layers that run: conv, relu, deep"
    )
    assert refused("--output", "conv9").startswith("Expected --output to name a layer that runs, got 'conv9': ")
    assert refused("--data", str(tmp_path / "no")).startswith("Expected --data to be one of FILE.h5 (HDF5), ")
    assert refused("--candidates", "0:99").startswith(
        "Expected --candidates to be a range of positions within 0:12, the images of T/data, got 0:99"
    )
    assert refused("--size", "2").startswith("Expected the encoder to take views of shape [2, 3, 2, 2]; it says: ")
    one = tmp_path / "one"
    one.mkdir()
    picture = next((Path(given.data) / "class0").iterdir())
    (one / "a.png").write_bytes(picture.read_bytes())
    assert refused("--data", str(one)) == "Expected 2 images or more in T/one, got 1: there is nothing to compare with"
    audit_helpers.pictures(one, count=2, size=16)
    (one / "a.png").rename(one / "class0" / "a.png")
    assert refused("--data", str(one)) == (
        "Expected --size, because the images of T/one have 2 sizes (from 8x8 to 16x16); views need one"
    )
    (one / "class0" / "b.png").write_text("no image")
    assert refused("--data", str(one)).startswith(
        "Expected 4 images in T/one that can be read; 1 of 4 cannot: class0/b.png (not an image of a known format"
    )
    assert refused("--data", str(one)).endswith("; repair them, or leave them out with --skip-corrupt")
    assert not given.out.exists()


def test_an_encoder_that_fails_says_what_it_says(given: Options, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(given.encoder.removeprefix("py:").partition(":")[0])
    file.write_text(
        "from audit_helpers import Net\nclass build(Net):\n    def forward(self, x):\n        return [][0]\n"
    )
    assert error(capsys, audit_helpers.arguments(given)).startswith(
        "Expected the encoder to take views of shape [2, 3, 8, 8]; it says: list index out of range; set --size, or "
    )
    file.write_text(
        "import torch\nfrom audit_helpers import Net\nclass build(Net):\n    def forward(self, x):\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory.')\n"
    )
    whole = "Out of memory: CUDA out of memory.; a smaller --batch-size takes less"
    assert error(capsys, audit_helpers.arguments(given)) == whole


def test_corrupt_images_are_skipped_only_with_the_flag(given: Options) -> None:
    (Path(given.data) / "class0" / "00.png").write_bytes(b"")
    run = run_audit(replace(given, skip_corrupt=True))
    assert run is not None
    assert run.samples["index"].to_pylist() == list(range(1, 12))
    assert run.manifest.data.skipped[0][0] == "class0/00.png"
    assert min(run.units["peak_index"].to_pylist()) >= 1


@pytest.mark.parametrize("arguments", [["audit"], ["audit", "memkern:resnet9"], ["merge"], ["audit", "--shard", "3"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2


def test_nan_is_an_error_that_names_layer_and_image(given: Options) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(given.reference[0])
    state["deep.bias"][0] = torch.nan
    save_file(state, given.reference[0])
    with pytest.raises(RuntimeError, match=r"got NaN from layer 'deep' of g for image 'class0/00\.png'"):
        run_audit(given)
    run = run_audit(replace(given, resume=False, allow_nan=True, out=given.out.with_name("nan")))
    assert run is not None
    assert all(value != value for value in run.samples["sslmem"].to_pylist())


def test_a_layer_that_stops_firing(given: Options) -> None:
    class Fickle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.passes = torch.nn.Conv2d(3, 2, 3), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes += 1  # some passes try the encoder and look the layers up
            return self.a(x).mean((2, 3)) if self.passes < 8 else x.mean((2, 3))

    images = from_arrays(np.zeros((8, 8, 8, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None])
    with pytest.raises(RuntimeError, match=r"these did not: \['a'\]"):
        run_audit(given, encoders=(Fickle(), None), source=images)


def test_the_plan_in_memory(given: Options) -> None:
    found = dry_run(given)
    assert found.plan.n_images == 12
    assert set(found.seconds) == {"load", "views", "forward", "metrics", "write"}
    assert (found.row_bytes, found.median_bytes) == (4 * 12 * 4 * 2, 0)
