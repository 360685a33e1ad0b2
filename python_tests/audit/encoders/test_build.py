"""Encoders by name: every kind is found, and a wrong name says what is near."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memkern._util.registry import records
from memkern.audit.encoders import kinds
from memkern.audit.encoders.build import build_encoder, encoder_kinds, encoder_table
from memkern.errors import EncoderError
from memkern.lab.encoders.audit_kind import audit_name
from memkern.lab.encoders.build import build


def test_the_lab_adds_its_encoders_through_its_entry_point() -> None:
    assert build_encoder("memkern:resnet9")(torch.rand(2, 3, 32, 32)).shape == (2, 256)
    assert [kind.name for kind in encoder_kinds()] == ["hf", "lightly", "memkern", "py", "timm", "torchvision"]
    assert not [path.name for path in Path(kinds.__path__[0]).glob("*.py") if "memkern.lab" in path.read_text()]


@pytest.mark.parametrize(("name", "size"), [("resnet9", 32), ("resnet18-cifar", 16), ("vit-nano-8", 16)])
def test_every_encoder_of_the_lab_is_built_as_the_lab_builds_it(name: str, size: int) -> None:
    for package in ("torchvision", "timm"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install 'memkern[ssl]'")
    built = build_encoder(audit_name(name, size))
    assert list(built.state_dict()) == list(build(name, image_size=size).state_dict())
    assert built(torch.rand(2, 3, size, size)).ndim == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18", "Expected ENCODER to be one of hf:CONFIG_DIR, lightly:NAME, memkern:NAME, py:FILE.py:FUNCTION, "
         "timm:NAME, torchvision:NAME, got 'resnet18'"),
        ("memkern:resnet99", "Expected the name of a memkern model, got 'resnet99'; near: resnet9"),
        ("memkern:vit-nano-8?image_size=20", "Expected `image_size` to be a multiple of the patch, 8, got 20"),
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


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("timm:vit_tiny_patch16_224?image_sze=32", "; did you mean `img_size`?"),
        ("torchvision:vit_b_16?image_sze=32", "; did you mean `image_size`?"),
        ("torchvision:resnet18?completely_different=1", "'completely_different'"),
    ],
)
def test_near_arguments(text: str, near: str) -> None:
    pytest.importorskip(text.partition(":")[0], reason="not installed")
    with pytest.raises(TypeError) as error:
        build_encoder(text)
    assert str(error.value).endswith(near)


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


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("resnet18?num_classes=3", "lightly:resnet18"),
        ("vit_small_patch16_224", "timm:vit_small_patch16_224"),
        ("resnet9", "memkern:resnet9"),
        ("torchvison:resnet18", "torchvision:resnet18"),
        ("tmm:vit_small_patch16_224", "timm:vit_small_patch16_224"),
    ],
)
def test_a_name_without_a_kind_or_with_a_wrong_one(text: str, near: str) -> None:
    for package in ("torchvision", "timm"):
        pytest.importorskip(package, reason="not installed")
    with pytest.raises(EncoderError) as error:
        build_encoder(text)
    assert near in str(error.value).partition("; near: ")[2].split(", ")


@pytest.mark.field("encoder", "traced, scripted and exported modules: refused")
def test_programs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\ndef make(how):\n    net, x = nn.Linear(2, 3), torch.rand(1, 2)\n"
        "    return {'traced': lambda: torch.jit.trace(net, x), 'scripted': lambda: torch.jit.script(net),\n"
        "            'exported': lambda: torch.export.export(net, (x,)).module()}[how]()\n"
    )
    for how in ("traced", "scripted", "exported"):
        with pytest.raises(EncoderError, match=r"to give a module whose layers run in Python, got (traced|exported)"):
            build_encoder(f"py:{file}:make?how={how}")
