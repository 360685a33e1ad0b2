"""Checkpoints of an encoder like the one that is named: of images of another size, or in another library's names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.errors import WeightsError

TINY = "depth=1&embed_dim=24&num_heads=3"


def torchvision_vit(size: int) -> nn.Module:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    encoder: nn.Module = models.VisionTransformer(size, 32, 1, 3, 24, 24)
    return encoder


def refused(encoder: str | nn.Module, state: dict[str, Tensor], folder: Path) -> str:
    torch.save(state, folder / "f.pt")
    with pytest.raises(WeightsError) as error:
        load_weights(build_encoder(encoder) if isinstance(encoder, str) else encoder, str(folder / "f.pt"))
    return str(error.value)


@pytest.mark.field("checkpoint", "position embeddings of images of another size: both sizes are named")
@pytest.mark.parametrize(
    ("encoder", "argument", "wanted", "got"),
    [
        (f"timm:vit_tiny_patch16_224?{TINY}", "img_size", 224, 96),
        (f"timm:vit_tiny_patch16_224?{TINY}", "img_size", 96, 384),
        (f"timm:vit_small_patch14_reg4_dinov2?{TINY}", "img_size", 224, 518),
    ],
)
def test_positions_of_images_of_another_size(
    encoder: str, argument: str, wanted: int, got: int, tmp_path: Path
) -> None:
    pytest.importorskip(encoder.partition(":")[0], reason="not installed")
    state = build_encoder(f"{encoder}&{argument}={got}").state_dict()
    assert refused(f"{encoder}&{argument}={wanted}", state, tmp_path).endswith(
        f"(1 differ); they are of images of {got} x {got} pixels, the encoder is of {wanted} x {wanted}: name it with "
        f"?{argument}={got}"
    )
    load_weights(build_encoder(f"{encoder}&{argument}={got}"), str(tmp_path / "f.pt"))


def test_positions_of_torchvision_s_vit(tmp_path: Path) -> None:
    assert refused(torchvision_vit(224), torchvision_vit(64).state_dict(), tmp_path).endswith(
        "they are of images of 64 x 64 pixels, the encoder is of 224 x 224: name it with ?image_size=64"
    )


def test_positions_of_no_square_or_width_are_no_other_size(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    encoder = f"timm:vit_tiny_patch16_224?{TINY}"
    state = build_encoder(encoder).state_dict()
    for shape in ((1, 20, 24), (1, 37, 12), (37, 24)):
        assert refused(encoder, {**state, "pos_embed": torch.rand(shape)}, tmp_path).endswith("after a '?'")


@pytest.mark.field("checkpoint", "names of transformers, torchvision's and timm's ViTs for each other: said")
def test_names_of_another_library(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 24}
    hf = transformers.ViTModel(transformers.ViTConfig(**sizes)).state_dict()
    timm = f"timm:vit_tiny_patch16_224?{TINY}"
    for encoder, state, words in (
        (timm, hf, "is of a model of transformers: name the folder that save_pretrained wrote, hf:FOLDER"),
        (timm, {f"vit.{name}": value for name, value in hf.items()}, "is of a model of transformers"),
        (timm, torchvision_vit(64).state_dict(), "is of a ViT of torchvision: name the encoder torchvision:vit"),
        (
            torchvision_vit(224),
            build_encoder(timm).state_dict(),
            "is of a ViT as timm has it: name the encoder timm:vit_…",
        ),
    ):
        assert f"; the file {words}" in refused(encoder, state, tmp_path)
    lacking = {name: value for name, value in build_encoder(timm).state_dict().items() if name != "cls_token"}
    assert "the file is of" not in refused(timm, lacking, tmp_path)


@pytest.mark.field("checkpoint", "one process's share under FSDP (flat_param): how to save the whole is said")
@pytest.mark.parametrize(
    "name", ["_fsdp_wrapped_module._flat_param", "encoder.flat_param_0", "layer1._fpw_module.flat_param"]
)
def test_shares_of_fsdp(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    words = refused("torchvision:resnet18", {name: torch.rand(1000)}, tmp_path)
    assert "one process's share" in words
    assert "full_state_dict=True" in words
