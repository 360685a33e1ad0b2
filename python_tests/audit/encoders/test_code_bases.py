"""Checkpoints of the code bases of self-supervised learning: files are made by their public names, and load."""

from __future__ import annotations

import argparse
import pathlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.checkpoints.code_bases import CODE_BASES, CodeBase
from memkern.audit.encoders.checkpoints.spellings import SPELLINGS
from memkern.audit.encoders.weights import load_weights

VIT = "img_size=32&patch_size=8&embed_dim=24&depth=2&num_heads=2"


class DictConfig:
    """Stands for a configuration of OmegaConf: an object of a class that the reader does not have."""

    def __init__(self, content: Any) -> None:
        self._content = content


class ConfigDict(dict):
    """Stands for the dictionaries of yacs and mmengine."""


def small(encoder: str) -> str:
    """The encoder of a row, of a size for tests."""
    kind, _, name = encoder.partition(":")
    if name.startswith("resnet"):
        return f"{kind}:resnet18"
    pytest.importorskip("timm", reason="timm is not installed")
    return f"timm:{name}?{VIT}"


def values(encoder: nn.Module, seed: int) -> dict[str, Tensor]:
    """Tensors like an encoder's, without its classifier: each of one number of its own, so that files are small."""
    return {
        name: torch.tensor(seed + place / 1024 if value.is_floating_point() else seed).expand(value.shape)
        for place, (name, value) in enumerate(encoder.state_dict().items())
        if not name.startswith(("fc.", "head."))
    }


@pytest.fixture
def uninitialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes most of the time of building an encoder: every weight is loaded here."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "uniform_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *arguments, **options: tensor)


def in_file(base: CodeBase, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the code base spells them: the inverse of what is loaded."""
    spelling = next(each for each in SPELLINGS if base.spelling in each.name) if base.spelling else SPELLINGS[0]
    spelled = {spelling.in_file(name): value for name, value in state.items()}
    if "class_embedding" in spelled:
        spelled["class_embedding"] = spelled["class_embedding"].flatten()
        spelled["positional_embedding"] = spelled["positional_embedding"][0]
    if spelling.class_position:
        shift = torch.full_like(spelled["cls_token"], 0.25)
        spelled["cls_token"] = spelled["cls_token"] - shift
        spelled["pos_embed"] = torch.cat([shift, spelled["pos_embed"]], 1)
    return spelled


def put(content: dict[str, Any], place: str, state: dict[str, Tensor], head: tuple[str, ...] = ()) -> None:
    """Puts a network into a checkpoint, below the keys and behind the prefix of its place."""
    *keys, prefix = place.split("/")
    for key in filter(None, keys):
        content = content.setdefault(key, {})
    content |= {prefix + name: value for name, value in state.items()}
    outer = prefix[: prefix[:-1].rfind(".") + 1]
    for name in head:
        content[outer + name[3:] if name.startswith("../") else prefix + name] = torch.rand(3)


def beside(content: dict[str, Any]) -> dict[str, Any]:
    """What training scripts put beside the weights: settings, numbers, paths, optimizers, other tensors."""
    if not any(isinstance(value, dict) for value in content.values()):
        return content
    return content | {
        "epoch": torch.tensor(3),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("out")),
        "best": np.float64(0.3),
        "rng": {"numpy": np.random.default_rng(0).bit_generator.state, "python": random.Random(0).getstate()},
        "hyper_parameters": DictConfig({"lr": 0.1}),
        "cfg": ConfigDict(lr=0.1),
        "optimizer": {"state": {0: {"exp_avg": torch.rand(2), "step": 3}}, "param_groups": [{"params": [0]}]},
        "dino_loss": {"center": torch.rand(1, 3)},
    }


@pytest.mark.parametrize(
    "base", [pytest.param(base, id=base.name, marks=pytest.mark.field("checkpoint", base.name)) for base in CODE_BASES]
)
def test_checkpoints_load_by_naming_encoder_and_file(base: CodeBase, uninitialised: None, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    encoder = build_encoder(small(base.encoder))
    taken = values(encoder, 1)
    content: dict[str, Any] = {}
    put(content, base.place, in_file(base, taken), base.head)
    for seed, place in enumerate(base.others, 2):
        put(content, place, in_file(base, values(encoder, seed)), base.head)
    file = tmp_path / "checkpoint.pth"
    torch.save(beside(content), file)

    loaded = load_weights(encoder, str(file))
    for name, value in encoder.state_dict().items():
        assert torch.allclose(
            value.float(), taken[name].float(), atol=0 if "register" not in base.spelling else 1e-6
        ), name
    assert bool(loaded.network) == bool(base.others)
    assert len(loaded.others) == len(base.others)
    assert set(loaded.head_off) <= {"fc"}
    if base.other:
        load_weights(encoder, f"{file}?network={base.other}")
        second = values(encoder, 2)
        assert all(torch.equal(value, second[name]) for name, value in encoder.state_dict().items())


def test_every_spelling_is_some_code_base_s() -> None:
    used = {base.spelling for base in CODE_BASES if base.spelling}
    named = [each.name for each in SPELLINGS[1:] if not any(part in each.name for part in used)]
    assert named == [
        "torchvision's ResNets, for an nn.Sequential of their children",
        "lightly's ResNetGenerator, for torchvision's ResNets",
        "DINOv2 of giant size, for timm's ViTs",
    ], "those have a test of their own"


def test_resnets_that_are_written_as_a_sequence(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    named, sequence = build_encoder("torchvision:resnet18"), build_encoder("lightly:resnet18")
    torch.save(named.state_dict(), tmp_path / "f.pt")
    assert load_weights(sequence, str(tmp_path / "f.pt")).left == ("fc.weight", "fc.bias")
    x = torch.rand(1, 3, 32, 32)
    named.fc = nn.Identity()
    assert torch.equal(sequence(x).flatten(1), named(x))
    layers = [named.conv1, named.bn1, named.layer1, named.layer2, named.layer3, named.layer4]
    generated = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1)
    )  # as lightly.models.ResNetGenerator hands out a backbone
    torch.save({f"backbone.{name}": v for name, v in generated.state_dict().items()}, tmp_path / "f.pt")
    other = build_encoder("torchvision:resnet18")
    assert load_weights(other, str(tmp_path / "f.pt")).head_off == ("fc",)
    assert torch.equal(other(x), named(x))


def official(text: str, place: str) -> dict[str, Tensor]:
    """Tensors of a ViT of timm by the names of the code base of a spelling."""
    base = next(each for each in CODE_BASES if each.name == place)
    return in_file(base, values(build_encoder(text), 5))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("vit_small_patch14_reg4_dinov2", "DINOv2 with registers"),
        ("vit_small_patch14_dinov2", "DINOv2"),
        ("vit_base_patch16_clip_224", "open_clip, CLIP"),
    ],
)
def test_renamed_weights_are_those_that_timm_makes_of_them(name: str, base: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    text = f"timm:{name}?{VIT}"
    state, encoder = official(text, base), build_encoder(text)
    torch.save({f"visual.{key}": v for key, v in state.items()} if "CLIP" in base else state, tmp_path / "f.pt")
    load_weights(encoder, str(tmp_path / "f.pt"))
    as_timm = (
        {f"visual.{key}": v for key, v in state.items()}
        if "CLIP" in base
        else {**state, "mask_token": torch.rand(1, 24)}
    )
    wanted = timm.models.vision_transformer.checkpoint_filter_fn(as_timm, encoder)
    got = encoder.state_dict()
    assert {key for key in got if key in wanted} == set(got)
    assert all(torch.allclose(got[key], wanted[key].reshape(got[key].shape), atol=1e-6) for key in got)


def test_blocks_in_chunks(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    text = f"timm:vit_small_patch14_dinov2?{VIT}"
    encoder, wanted = build_encoder(text), values(build_encoder(text), 1)
    chunked = {
        name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): v for name, v in wanted.items()
    }
    torch.save({"teacher": {f"backbone.{name}": v for name, v in chunked.items()}}, tmp_path / "f.pt")
    load_weights(encoder, str(tmp_path / "f.pt"))
    assert all(torch.equal(v, wanted[name]) for name, v in encoder.state_dict().items())
    numbered = build_encoder("timm:mobilenetv3_small_050")  # its own names are blocks.0.0
    torch.save(numbered.state_dict(), tmp_path / "f.pt")
    assert load_weights(build_encoder("timm:mobilenetv3_small_050"), str(tmp_path / "f.pt")).left == ()


def test_dinov2_of_giant_size(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    text = f"timm:vit_giant_patch14_dinov2?{VIT}"
    encoder, wanted = build_encoder(text), values(build_encoder(text), 1)
    renamed = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): v for name, v in wanted.items()}
    assert renamed.keys() != wanted.keys()
    torch.save(renamed, tmp_path / "f.pt")
    load_weights(encoder, str(tmp_path / "f.pt"))
    assert all(torch.equal(v, wanted[name]) for name, v in encoder.state_dict().items())
