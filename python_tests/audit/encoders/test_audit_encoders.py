"""Encoders by name and weights from files of every habit; nothing runs code from them, nothing is half loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audit_helpers
import pytest
import torch
from torch import nn

from memkern._util.registry import records
from memkern.audit.encoders import kinds
from memkern.audit.encoders.build import build_encoder, encoder_kinds, encoder_table
from memkern.audit.encoders.spec import parse
from memkern.audit.encoders.weights import load_weights
from memkern.errors import EncoderError, WeightsError


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- names ----------------------------------------------------------------------------------------------------------


def test_names_with_arguments() -> None:
    spec = parse("timm:vit_x?img_size=32&act=gelu&flat=True&size=(1,2)", ("timm",))
    assert (spec.prefix, spec.name) == ("timm", "vit_x")
    assert spec.arguments == {"img_size": 32, "act": "gelu", "flat": True, "size": (1, 2)}
    assert parse("C:/data?key=x", ("timm",)).name == "C:/data"
    with pytest.raises(ValueError, match=r"Expected `key=value` after the '\?' of 'a\?b', got 'b'"):
        parse("a?b")


def test_every_kind_of_encoder(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 32, 32)
    assert build_encoder("memkern:resnet9")(x).shape == (2, 256)
    assert not build_encoder(audit_helpers.encoder_file(tmp_path)).training
    assert build_encoder(audit_helpers.encoder_file(tmp_path) + "?width=5").conv.out_channels == 5
    pytest.importorskip("timm", reason="timm is not installed")
    vit = "timm:vit_tiny_patch16_224?img_size=32&embed_dim=24&num_heads=2&depth=1"
    assert build_encoder(vit)(x).shape == (2, 24), "without a classifier"
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert build_encoder("torchvision:squeezenet1_1?num_classes=7")(x).shape == (2, 7)
    assert build_encoder("lightly:squeezenet1_1")(x).shape[:2] == (2, 512)


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    config = transformers.ViTConfig(**small, image_size=16, patch_size=8)
    config.save_pretrained(tmp_path)
    saved = transformers.ViTModel(config)
    saved.save_pretrained(tmp_path)
    encoder = build_encoder(f"hf:{tmp_path}")
    load_weights(encoder, str(tmp_path))
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(encoder(x).last_hidden_state, saved.eval()(x).last_hidden_state)
    from memkern.audit.taps.hook_points import find_layers

    found = find_layers(encoder, x, "sublayers")
    assert len(found.sites) == 5, [site.name for site in found.sites]
    assert len(find_layers(encoder, x).sites) > 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18", "Expected ENCODER to be one of hf:CONFIG_DIR, lightly:NAME, memkern:NAME, py:FILE.py:FUNCTION, "
         "timm:NAME, torchvision:NAME, got 'resnet18'"),
        ("memkern:resnet99", "Expected the name of a memkern model, got 'resnet99'; near: resnet9"),
        ("torchvision:resnet19", "Expected the name of a torchvision model, got 'resnet19'; near: resnet18"),
        ("timm:vit_tiny_patch16_2244", "Expected the name of a timm model, got 'vit_tiny_patch16_2244'; near: "
         "vit_tiny_patch16_224"),
        ("hf:nowhere", "Expected hf:CONFIG_DIR to be a folder with config.json, got 'nowhere'; nothing is downloaded"),
        ("py:nowhere.py:build", "Expected py:FILE.py:FUNCTION with a file that exists, got 'nowhere.py:build'"),
        ("py:nowhere.py", "Expected py:FILE.py:FUNCTION with a file that exists, got 'nowhere.py'"),
        ("memkern:resnet9?depth=3", "Expected arguments that memkern:resnet9 takes, got 'memkern:resnet9?depth=3': "),
    ],
)  # fmt: skip
def test_wrong_names(text: str, message: str) -> None:
    if text.startswith(("timm", "torchvision")):
        pytest.importorskip(text.partition(":")[0], reason="not installed")
    with pytest.raises((ValueError, TypeError)) as error:
        build_encoder(text)
    assert str(error.value).startswith(message)


def test_wrong_functions(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def build():\n    return 3\n")
    with pytest.raises(TypeError, match=r"to give a torch\.nn\.Module, got int"):
        build_encoder(f"py:{file}:build")
    with pytest.raises(ValueError, match="to define 'make'; it defines build"):
        build_encoder(f"py:{file}:make")


def test_constructors_and_files_that_fail(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import torch\ndef build(size=3):\n    return torch.nn.Linear(size, 2, device='nowhere')\n")
    with pytest.raises(EncoderError, match=r"mine\.py:build' to build an encoder, got RuntimeError: Expected one of"):
        build_encoder(f"py:{file}:build")
    file.write_text("1 / 0")
    with pytest.raises(EncoderError, match=r"mine\.py:build' to build an encoder, got ZeroDivisionError: division"):
        build_encoder(f"py:{file}:build")


def test_a_new_kind_is_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text(
        "from torch import nn\n"
        "from memkern.audit.encoders.kind import EncoderKind\n"
        "def _build(name, arguments):\n"
        "    return nn.Linear(int(name), **arguments)\n"
        "KIND = EncoderKind('line', 'one linear layer', 'line:IN', '', _build)\n"
    )
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    records.cache_clear()
    try:
        assert build_encoder("line:3?out_features=2")(torch.ones(1, 3)).shape == (1, 2)
        assert "| `line:IN` | one linear layer |  |\n" in encoder_table()
        with pytest.raises(EncoderError, match="hf:CONFIG_DIR, lightly:NAME, line:IN, memkern:NAME"):
            build_encoder("resnet18")
    finally:
        records.cache_clear()


def test_the_lab_adds_its_encoders_through_its_entry_point() -> None:
    assert [kind.name for kind in encoder_kinds()] == ["hf", "lightly", "memkern", "py", "timm", "torchvision"]
    assert not [path.name for path in Path(kinds.__path__[0]).glob("*.py") if "memkern.lab" in path.read_text()]


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}, "optimizer": {"lr": 1.0}},
        lambda state: {f"_orig_mod.backbone.{name}": value for name, value in state.items()},
        lambda state: {"teacher": {**state, "head.weight": torch.zeros(2, 2)}},
        lambda state: {name: value.half() for name, value in state.items()},
        lambda state: {"projection_head.0.weight": torch.ones(1), **{f"backbone.{n}": v for n, v in state.items()}},
    ],
    ids=["plain", "lightning", "ddp", "compiled", "teacher", "half", "head"],
)  # fmt: skip
def test_checkpoints_of_every_habit(tmp_path: Path, nest: Any) -> None:
    wanted = audit_helpers.net(3)
    state = {name: value.half().float() for name, value in wanted.state_dict().items()}
    wanted.load_state_dict(state)
    torch.save(nest(state), tmp_path / "f.pt")
    encoder = audit_helpers.net(4)
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert same(encoder, wanted)
    assert all("head" in name for name in loaded.left)


def test_safetensors_and_folders(tmp_path: Path) -> None:
    file = audit_helpers.weights(tmp_path, model=3)["model"]
    for text in (file, str(tmp_path)):
        encoder = audit_helpers.net(4)
        load_weights(encoder, text)
        assert same(encoder, audit_helpers.net(3))


def test_the_part_of_a_checkpoint_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "f.pt"
    student, teacher = audit_helpers.net(1), audit_helpers.net(2)
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, file)
    encoder = audit_helpers.net(4)
    load_weights(encoder, f"{file}?key=student")
    assert same(encoder, student)
    both = {f"s.{name}": value for name, value in student.state_dict().items()}
    torch.save(both | {f"t.{name}": value for name, value in teacher.state_dict().items()}, file)
    with pytest.raises(WeightsError, match=r"Expected one network in .*, got several, under 's\.', 't\.'; choose with"):
        load_weights(encoder, str(file))
    load_weights(encoder, f"{file}?prefix=t.")
    assert same(encoder, teacher)


def test_an_encoder_inside_a_wrapper(tmp_path: Path) -> None:
    torch.save(audit_helpers.net(3).state_dict(), tmp_path / "f.pt")
    wrapper = nn.Sequential(audit_helpers.net(4))
    load_weights(wrapper, str(tmp_path / "f.pt"))
    assert same(wrapper, audit_helpers.net(3))


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_files_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, state = audit_helpers.net(4), dict(audit_helpers.net(3).state_dict())
    before = audit_helpers.net(4)
    file = tmp_path / "f.pt"

    def message(content: Any, options: str = "") -> str:
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises((WeightsError, FileNotFoundError)) as error:
            load_weights(encoder, f"{file}{options}")
        assert same(encoder, before), "nothing is half loaded"
        return str(error.value).replace(str(file), "F")

    assert message({"conv.weight": Evil()}).startswith(
        "Expected F to hold tensors only; reading it would run code from it."
    )
    assert "code ran" not in capsys.readouterr().out
    assert message(b"garbage").startswith(
        ("Expected F to be a file written by torch.save, got: ", "Expected F to hold tensors only")
    )
    assert message([1, 2]) == "Expected F to hold a state dict, got list"
    assert message({"epoch": 3}) == "Expected F to hold tensors by name, got the entries epoch"
    assert message(state, "?key=ema").startswith("Expected F to hold a state dict under 'ema'; it does under no name")
    assert message(state, "?kee=ema") == "Expected key, prefix or strict after the '?' of 'F?kee=ema', got kee"
    missing = {name: value for name, value in state.items() if name != "deep.bias"}
    assert message(missing) == (
        "Expected F to hold all 4 tensors of the encoder, got 3; missing: deep.bias; the file has: conv.weight, "
        "conv.bias, deep.weight"
    )
    wide = dict(audit_helpers.net(3, width=5).state_dict())
    assert message(wide) == (
        "Expected the shapes of the encoder in F: conv.weight [4, 3, 3, 3], got [5, 3, 3, 3]; conv.bias [4], got [5]; "
        "deep.weight [6, 4, 2, 2], got [6, 5, 2, 2] (3 differ); give the constructor's arguments after a '?'"
    )
    larger = {**state, "deep.extra": torch.ones(1)}
    assert message(larger) == (
        "Expected F to hold this encoder, got a larger one with deep.extra; allow it with F?strict=False"
    )
    load_weights(audit_helpers.net(4), f"{file}?strict=False")
    with pytest.raises(FileNotFoundError, match=r"Expected a file of weights, got 'no\.pt'; there is no such file"):
        load_weights(encoder, "no.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Expected model\.safetensors or pytorch_model\.bin in the folder"):
        load_weights(encoder, str(tmp_path / "empty"))
    bad = tmp_path / "f.safetensors"
    bad.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"f\.safetensors to be a safetensors file, got: "):
        load_weights(encoder, str(bad))


def test_batch_norm_counters_may_be_missing(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(3)
    state = {name: value for name, value in norm.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "f.pt")
    load_weights(nn.BatchNorm2d(3), str(tmp_path / "f.pt"))
