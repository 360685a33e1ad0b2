"""Encoders that run in PyTorch run in an audit, and those that draw random numbers are refused before the work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from audit_helpers import options
from PIL import Image
from torch import Tensor, nn

from memkern.audit.data.source import from_arrays
from memkern.audit.encoders import build
from memkern.audit.encoders.build import build_encoder
from memkern.audit.measure import fitting, run_shards
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, run_audit
from memkern.audit.run_folder.reader import Run
from memkern.errors import EncoderError, MissingFileError, WeightsError

CODE = """
import torch
from torch import nn
from torch.nn import functional as F

class View(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(36, 5)
    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(x.size(0), -1))

def gray():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def norm():
    last = nn.utils.weight_norm(nn.Linear(4, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)

def plain(kind="float32"):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net.to(getattr(torch, kind))

def batch(tracked):
    norm = nn.BatchNorm2d(4, track_running_stats=tracked)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Mixed(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(3, 4, 3)
    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        if self.how == "masked":
            return x[:, torch.randperm(x.shape[1])[:9]]
        if self.how == "shuffled":
            return x[:, torch.randperm(x.shape[1])]
        if self.how == "dropout":
            return F.dropout(x, 0.1)
        if self.how == "several":
            return {"logits": x.mean((1, 2))[:, None].repeat(1, 2), "last_hidden_state": x}
        return x

def mixed(how):
    return Mixed(how)
"""


def given(folder: Path, function: str, *, name: str = "mine.py", **changes: Any) -> Options:
    """Options of an audit of a function of `CODE`, with weights of two trainings."""
    file = folder / "code" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CODE)
    encoder = f"py:{file}:{function}"
    for seed, role in enumerate("fg"):
        torch.manual_seed(seed)
        torch.save(build_encoder(encoder.partition("&pool")[0]).state_dict(), folder / f"{role}.pt")
    pair = {"weights": str(folder / "f.pt"), "reference": str(folder / "g.pt")}
    return options(folder, encoder=encoder, **(pair | changes))


def audited(wanted: Options) -> tuple[Run, list[str]]:
    said: list[str] = []
    run = run_audit(wanted, log=said.append)
    assert run is not None
    return run, said


def refused(wanted: Options, monkeypatch: pytest.MonkeyPatch, error: type[Exception] = EncoderError) -> str:
    monkeypatch.setattr(run_shards, "measure_shard", lambda *arguments: pytest.fail("the long work has begun"))
    with pytest.raises(error) as raised:
        run_audit(wanted)
    with pytest.raises(error):
        dry_run(wanted)
    return str(raised.value)


@pytest.mark.field("encoder", "`x.view(x.size(0), -1)` of a map")
def test_the_order_in_memory_follows_the_encoder(tmp_path: Path) -> None:
    run, said = audited(given(tmp_path, "View"))
    assert "f does not run with the channels of a pixel side by side in memory, and is run without." in said
    assert [layer.name for layer in run.manifest.plan.layers] == ["conv", "fc"]
    _, said = audited(given(tmp_path, "plain", out=tmp_path / "plain"))
    assert not said


@pytest.mark.field("encoder", "one input channel with files of images, three with gray arrays")
def test_channels_follow_the_encoder(tmp_path: Path) -> None:
    wanted = given(tmp_path, "gray")
    for path in Path(wanted.data).rglob("*.png"):
        Image.open(path).convert("L").save(path)
    run, said = audited(wanted)
    assert "f takes images of 1 channel(s); they are given as gray (ITU-R BT.601)." in said
    arrays = np.stack([np.asarray(Image.open(path))[..., None] for path in sorted(Path(wanted.data).rglob("*.png"))])
    nets = [build_encoder(wanted.encoder) for _ in "fg"]
    for net, file in zip(nets, (*wanted.weights, *wanted.reference), strict=True):
        net.load_state_dict(torch.load(file))
    same = run_audit(replace(wanted, out=tmp_path / "array"), encoders=tuple(nets), source=from_arrays(arrays))
    assert same is not None
    assert same.samples["sslmem"].to_pylist() == run.samples["sslmem"].to_pylist(), "gray files as gray arrays"
    color, said = audited(given(tmp_path, "plain", data=str(npz(tmp_path, arrays)), out=tmp_path / "color"))
    assert "f takes images of 3 channel(s); they are given as three equal channels." in said
    assert color.manifest.data.n_images == 12


def npz(folder: Path, arrays: np.ndarray) -> Path:
    np.savez(folder / "images.npz", images=arrays)
    return folder / "images.npz"


def test_gray_is_pillow_s() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    got = fitting._gray(torch.from_numpy(pixels).permute(2, 0, 1))
    assert np.array_equal(got[0].numpy(), np.asarray(Image.fromarray(pixels).convert("L")))
    floats = torch.rand(3, 4, 4, dtype=torch.float64)
    wanted = 0.299 * floats[0] + 0.587 * floats[1] + 0.114 * floats[2]
    assert torch.allclose(fitting._gray(floats)[0], wanted, atol=1e-5)
    equal = torch.rand(1, 4, 4).expand(3, -1, -1)
    assert torch.equal(fitting._gray(equal), equal[:1])


@pytest.mark.field("encoder", "`weight_norm`")
def test_a_module_that_cannot_be_copied_has_a_reference(tmp_path: Path) -> None:
    run, _ = audited(given(tmp_path, "norm"))
    assert any(run.samples["sslmem"].to_pylist())


@pytest.mark.field("encoder", "float16, bfloat16, float64")
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_encoders_of_other_floats(kind: str, tmp_path: Path) -> None:
    wanted = given(tmp_path, f"plain?kind={kind}")
    run, said = audited(wanted)
    note = f"The encoder is of {kind}; it is run in float32."
    assert f"f: {note}" in said
    assert run.manifest.weights.f.notes[0] == note
    plain = replace(wanted, encoder=wanted.encoder.partition("?")[0], out=tmp_path / "plain")
    assert audited(plain)[0].samples["sslmem"].to_pylist() == run.samples["sslmem"].to_pylist()


@pytest.mark.field("encoder", "random masks, shuffled tokens, dropout in eval mode: refused")
@pytest.mark.parametrize("how", ["masked", "shuffled", "dropout"])
def test_encoders_that_draw_are_refused(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = given(tmp_path, f"mixed?how={how}")
    assert refused(wanted, monkeypatch) == (
        f"Expected f ({wanted.encoder}) to give the same for the same views, got other values in a second pass: it "
        "draws random numbers in eval mode (masks, a shuffled order, dropout), so that alignments would be chance; "
        "switch that off with an argument after the '?' of ENCODER, or in a py: function"
    )
    assert not wanted.out.exists()


def test_an_encoder_in_memory_that_draws_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = audit_helpers.net(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + torch.rand(6)

    images = from_arrays(np.random.default_rng(0).random((5, 8, 8, 3)))
    wanted = Options(encoder="mine", weights="", data="", out=tmp_path / "run", views=2, images=False)
    with pytest.raises(EncoderError, match=r"Expected g \(.*\) to give the same for the same views"):
        run_audit(wanted, encoders=(audit_helpers.net(1), Drops()), source=images)


@pytest.mark.field("encoder", "a BatchNorm without running statistics: refused")
def test_encoders_that_mix_the_images_of_a_batch_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = given(tmp_path, "batch?tracked=False")
    assert refused(wanted, monkeypatch).startswith(
        f"Expected f ({wanted.encoder}) to give a view the same whatever other views are in the batch, got other values"
    )
    monkeypatch.undo()
    run, said = audited(given(tmp_path, "batch?tracked=True"))
    assert not said
    assert any(run.samples["sslmem"].to_pylist())


@pytest.mark.field("encoder", "float16 in memory: refused, with the way on")
def test_an_encoder_in_memory_of_other_floats(tmp_path: Path) -> None:
    class Casts(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = super().forward(x.double())
            return found

    images = from_arrays(np.random.default_rng(0).random((5, 8, 8, 3)))
    wanted = Options(encoder="mine", weights="", data="", out=tmp_path / "run", views=2, images=False)
    with pytest.raises(
        EncoderError, match=r"it is of float16, and views are float32: give a copy of it, copy\.deepcopy"
    ):
        run_audit(wanted, encoders=(audit_helpers.net(1).half(), audit_helpers.net(2)), source=images)
    nets = [Casts(audit_helpers.net(seed).double()) for seed in (1, 2)]
    assert run_audit(wanted, encoders=(nets[0], nets[1]), source=images) is not None, "one that casts by itself runs"
    assert all(value.dtype == torch.float64 for value in nets[0].parameters()), "as it was"


@pytest.mark.field("encoder", "several tensors, tokens, maps as output")
def test_which_tensor_is_measured_is_said_and_may_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = audited(given(tmp_path, "mixed?how=several"))
    assert said[0] == (
        "SSLMem is measured at 'last_hidden_state' of f's output, [36, 4] per view; it returns logits [2], "
        "last_hidden_state [36, 4]. Choose with ?pool=cls, mean or tokens after ENCODER, or with --output LAYER."
    )
    outputs = {}
    for pool, shape in (("cls", (4,)), ("mean", (4,)), ("tokens", (4, 6, 6))):  # tokens: the map that they are views of
        wanted = given(tmp_path, f"mixed?how=several&pool={pool}", out=tmp_path / pool)
        pooled, said = audited(wanted)
        assert any("SSLMem is measured" in each for each in said) == (pool == "tokens")
        assert pooled.manifest.plan.layers[-1].shape == shape
        outputs[pool] = pooled.samples["sslmem"].to_pylist()
    assert outputs["tokens"] == run.samples["sslmem"].to_pylist()
    assert len({tuple(each) for each in outputs.values()}) == 3
    assert "one of cls, mean, tokens, got 'max'" in refused_at_once("mixed?how=several&pool=max", tmp_path)
    assert "to return tokens [N, T, U] for ?pool=cls, got [2, 4]" in refused(
        given(tmp_path, "plain?kind=float32&pool=cls", out=tmp_path / "no"), monkeypatch
    )


def refused_at_once(function: str, folder: Path) -> str:
    with pytest.raises(EncoderError) as error:
        build_encoder(f"py:{folder / 'code' / 'mine.py'}:{function}")
    return str(error.value)


@pytest.mark.parametrize(("pool", "wanted"), [("cls", lambda x: x[:, 0]), ("mean", lambda x: x.mean(1))])
def test_pooled_values(pool: str, wanted: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    given(tmp_path, "mixed?how=tokens")
    text = f"py:{tmp_path / 'code' / 'mine.py'}:mixed?how=tokens"
    torch.manual_seed(0)
    plain = build_encoder(text)
    torch.manual_seed(0)
    pooled = build_encoder(f"{text}&pool={pool}")
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(pooled(x), wanted(plain(x)))


def test_the_network_that_was_taken_stands_in_output_and_manifest(tmp_path: Path) -> None:
    wanted = given(tmp_path, "plain")
    states = {role: torch.load(tmp_path / f"{role}.pt") for role in "fg"}
    torch.save({"student": states["f"], "teacher": states["g"]}, tmp_path / "both.pt")
    both = str(tmp_path / "both.pt")
    run, said = audited(replace(wanted, weights=(both,), reference=(f"{both}?network=student",)))
    assert said[0] == (
        f"f: {both} holds several networks that fit; 'teacher' was taken, not 'student' (choose with "
        f"{both}?network=NAME)."
    )
    entries = json.loads((wanted.out / "manifest.json").read_text())["weights"]
    assert [(entries[role]["network"], entries[role]["others"]) for role in "fg"] == [
        ("teacher", ["student"]), ("student", ["teacher"])
    ]  # fmt: skip
    assert entries["f"]["sha256"] != entries["g"]["sha256"]
    apart, _ = audited(replace(wanted, weights=wanted.reference, reference=wanted.weights, out=tmp_path / "apart"))
    assert apart.samples["sslmem"].to_pylist() == run.samples["sslmem"].to_pylist()
    with pytest.raises(WeightsError, match="to be another encoder than --weights"):
        run_audit(replace(wanted, weights=(both,), reference=(f"{both}?network=teacher",), out=tmp_path / "same"))


def test_heads_that_are_in_one_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    torch.manual_seed(0)
    body = build_encoder("torchvision:squeezenet1_1").state_dict()
    torch.save(body, tmp_path / "f.pt")
    torch.save({name: v + 0.01 for name, v in body.items() if not name.startswith("classifier")}, tmp_path / "g.pt")
    wanted = options(
        tmp_path,
        encoder="torchvision:squeezenet1_1",
        weights=str(tmp_path / "f.pt"),
        reference=str(tmp_path / "g.pt"),
        size=32,
    )
    with monkeypatch.context() as patch:
        message = refused(wanted, patch, WeightsError)
    assert message.startswith(f"Expected weights of the same parts, got {tmp_path / 'f.pt'} without nothing and ")
    run, said = audited(replace(wanted, weights=wanted.reference, reference=()))
    assert any("has no weights that fit the head classifier.1; it was taken off" in each for each in said)
    assert len(run.manifest.weights.f.notes) == 1


def test_a_wrong_path_of_weights_is_found_before_encoders_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = given(tmp_path, "plain")
    monkeypatch.setattr(build, "encoder_kinds", lambda: pytest.fail("an encoder is built"))
    monkeypatch.setattr("memkern.audit.measure.encoders.build_encoder", lambda text: pytest.fail("an encoder is built"))
    with pytest.raises(MissingFileError, match=r"Expected a file of weights, got 'nowhere\.pt'"):
        run_audit(replace(wanted, reference=("nowhere.pt",)))


@pytest.mark.field("encoder", "`py:` files that import their neighbors")
def test_files_with_neighbors(tmp_path: Path) -> None:
    for folder, width in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts_of_mine.py").write_text(
            f"from torch import nn\ndef body(): return nn.Conv2d(3, {width}, 3)\n"
        )
        (tmp_path / folder / "mine.py").write_text(
            "from parts_of_mine import body\ndef make(): return body()\n"
            "def late():\n    import parts_of_mine as p\n    return p.body()\n"
        )
    before = list(sys.path)
    for _ in range(2):
        for function in ("make", "late"):
            built = [build_encoder(f"py:{tmp_path / folder / 'mine.py'}:{function}") for folder in "ab"]
            assert [each.out_channels for each in built] == [3, 5], "each has its own neighbors"
    assert sys.path == before
    assert "parts_of_mine" not in sys.modules


@pytest.mark.field("encoder", "`py:` files that moved before `--resume`")
def test_a_file_that_moved_before_the_audit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = given(tmp_path, "plain")

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_shards, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            run_audit(wanted)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "code", moved)
    again = replace(wanted, encoder=wanted.encoder.replace("/code/", "/elsewhere/"), resume=True)
    run, _ = audited(again)
    assert run.manifest.encoder == again.encoder
    (moved / "mine.py").write_text(CODE + "\nfrom other_of_mine import *\n")
    (moved / "other_of_mine.py").write_text("")
    with pytest.raises(ValueError, match="Expected `encoder"):
        run_audit(again)


def test_neighbors_are_part_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "deep.py").write_text("VALUE = 1\n")
    (tmp_path / "near.py").write_text("from far.deep import VALUE\nimport torch\n")
    (tmp_path / "mine.py").write_text("import near\n")
    (tmp_path / "not_imported.py").write_text("")
    names = [file.name for file in build.encoder_files(f"py:{tmp_path / 'mine.py'}:make?a=1")]
    assert names == ["mine.py", "near.py", "deep.py"]
    assert build.encoder_files(f"hf:{tmp_path}") == (tmp_path / "config.json",)
    assert build.encoder_files("timm:resnet18") == build.encoder_files("mine") == ()


def test_the_console_script_finds_neighbors(tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text("from torch import nn\ndef body(): return nn.Linear(2, 2)\n")
    (tmp_path / "mine.py").write_text("from layers_of_mine import body\nmake = body\n")
    start = "import sys; sys.path[0] = '/nowhere'; from memkern.audit.encoders.build import build_encoder as b"
    done = subprocess.run([sys.executable, "-c", f"{start}; b('py:mine.py:make')"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-400:]
