"""Classifier heads that a file lacks, or has and the encoder lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.errors import WeightsError


def refused(file: Path, encoder: nn.Module) -> str:
    with pytest.raises(WeightsError) as error:
        load_weights(encoder, str(file))
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18",
        "timm:resnet18?num_classes=7",
        "torchvision:squeezenet1_1",
        "torchvision:mobilenet_v3_small",
    ],
)
def test_a_missing_head_is_taken_off_and_said(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name.partition(":")[0], reason="not installed")
    encoder = build_encoder(name)
    x = torch.rand(2, 3, 64, 64)
    heads = ("fc", "classifier")
    torch.save({key: v for key, v in encoder.state_dict().items() if not key.startswith(heads)}, tmp_path / "f.pt")
    given: list[Tensor] = []
    first = next(
        each
        for key, each in encoder.named_modules()
        if key.startswith(heads) and list(each.parameters()) and not list(each.children())
    )
    handle = first.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    encoder(x)
    handle.remove()
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert loaded.head_off
    wanted = given[0].mean((2, 3)) if given[0].ndim == 4 else given[0]
    assert encoder(x).shape == wanted.shape
    if len(loaded.head_off) == 1:
        assert torch.allclose(encoder(x), wanted, atol=1e-5), "what went into it"


def test_a_missing_norm_is_no_missing_head(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    encoder = build_encoder("timm:convnext_atto?num_classes=3&depths=(1,1,1,1)&dims=(8,8,8,8)")
    body = encoder.state_dict()
    torch.save({name: v for name, v in body.items() if not name.startswith("head.fc.")}, tmp_path / "f.pt")
    fresh = build_encoder("timm:convnext_atto?num_classes=3&depths=(1,1,1,1)&dims=(8,8,8,8)")
    assert load_weights(fresh, str(tmp_path / "f.pt")).head_off == ("head.fc",)
    assert fresh(torch.rand(2, 3, 32, 32)).shape == (2, 8)
    torch.save({name: v for name, v in body.items() if not name.startswith("head.")}, tmp_path / "f.pt")
    assert "missing: head.norm.weight" in refused(tmp_path / "f.pt", encoder=encoder)


def test_a_head_of_another_kind_or_too_many(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    encoder, plain = build_encoder("timm:resnet18?num_classes=3"), build_encoder("timm:resnet18")
    body = dict(plain.state_dict())
    torch.save(encoder.state_dict(), tmp_path / "f.pt")
    assert load_weights(plain, str(tmp_path / "f.pt")).left == ("fc.weight", "fc.bias"), "superfluous"
    torch.save({**body, "fc.weight": torch.rand(3, 512)}, tmp_path / "f.pt")
    assert "missing: fc.bias" in refused(tmp_path / "f.pt", encoder=encoder), "half a head is none"
    torch.save({**body, "fc.weight": torch.rand(5, 512), "fc.bias": torch.rand(5)}, tmp_path / "f.pt")
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert (loaded.head_off, loaded.left) == (("fc",), ("fc.weight", "fc.bias")), "of other classes: taken off"
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    misfit = {
        **body,
        "conv1.weight": torch.rand(64, 1, 7, 7),
        "fc.weight": torch.rand(5, 512),
        "fc.bias": torch.rand(5),
    }
    torch.save(misfit, tmp_path / "f.pt")
    fresh = build_encoder("timm:resnet18?num_classes=3")
    assert "conv1.weight [64, 3, 7, 7], got [64, 1, 7, 7]" in refused(tmp_path / "f.pt", encoder=fresh)
    torch.save({name: v for name, v in body.items() if not name.startswith("layer4.")}, tmp_path / "f.pt")
    assert "missing: layer4.0.conv1.weight" in refused(tmp_path / "f.pt", encoder=plain)


@pytest.mark.field("checkpoint", "MoCo v1: a linear layer of 128 features in the place of the classifier")
def test_the_projection_of_moco_v1_is_no_head_of_torchvision(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    q, k = (torchvision.models.resnet18(num_classes=128).state_dict() for _ in "qk")
    q, k = ({f"module.encoder_{which}.{name}": v for name, v in each.items()} for which, each in (("q", q), ("k", k)))
    torch.save({"state_dict": {**q, **k, "module.queue": torch.rand(128, 9)}}, tmp_path / "f.pt")
    encoder = build_encoder("torchvision:resnet18")
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert (loaded.network, loaded.head_off) == ("state_dict.encoder_q", ("fc",))
    assert {"module.encoder_q.fc.weight", "module.encoder_q.fc.bias"} <= set(loaded.left)
    assert all(torch.equal(v, q[f"module.encoder_q.{name}"]) for name, v in encoder.state_dict().items())


def test_a_moving_average_with_a_head_is_not_taken_before_weights_without(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    encoder = build_encoder("torchvision:squeezenet1_1")
    whole = dict(encoder.state_dict())
    body = {name: value + 1 for name, value in whole.items() if not name.startswith("classifier.")}
    torch.save({"model_ema": whole, "model": body}, tmp_path / "f.pt")
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert (loaded.network, loaded.others, loaded.head_off) == ("model", ("model_ema",), ("classifier.1",))
