"""Models of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.errors import EncoderError


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
    assert len(found.hook_points) == 5, [hook_point.name for hook_point in found.hook_points]
    assert len(find_layers(encoder, x).hook_points) > 6


SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
TEXT = {key: value for key, value in SMALL.items() if "size" not in key or key in ("hidden_size", "intermediate_size")}


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.field("encoder", "transformers: models without a pooler")
def test_models_with_and_without_a_pooler(transformers: Any, tmp_path: Path) -> None:
    config = transformers.ViTConfig(**SMALL)
    x = torch.rand(2, 3, 16, 16)
    for name, pooler in (("with", True), ("without", False)):
        saved = transformers.ViTModel(config, add_pooling_layer=pooler).eval()
        saved.save_pretrained(tmp_path / name)
        for arguments in ("", "?add_pooling_layer=False"):
            encoder = build_encoder(f"hf:{tmp_path / name}{arguments}")
            loaded = load_weights(encoder, str(tmp_path / name))
            assert loaded.head_off == (() if pooler or arguments else ("pooler",))
            with torch.no_grad():
                assert torch.equal(encoder(x).last_hidden_state, saved(x).last_hidden_state)
            assert any(each.startswith("pooler.") for each in encoder.state_dict()) == (pooler and not arguments)
    other = transformers.ViTForImageClassification(config)
    other.save_pretrained(tmp_path / "classes")
    encoder = build_encoder(f"hf:{tmp_path / 'classes'}")
    assert load_weights(encoder, str(tmp_path / "classes")).head_off == ("pooler",)
    assert torch.equal(encoder.state_dict()["embeddings.cls_token"], other.vit.state_dict()["embeddings.cls_token"])


def test_a_field_that_a_configuration_lacks(transformers: Any, tmp_path: Path) -> None:
    """transformers drops what it does not know."""
    transformers.ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"got .image_sze.; did you mean `image_size`"):
        build_encoder(f"hf:{tmp_path}?image_sze=32")
    build_encoder(f"hf:{tmp_path}?image_size=32&num_channels=3")


@pytest.mark.field("encoder", "transformers: masked autoencoders")
def test_a_masked_autoencoder_reads_every_patch_in_order(transformers: Any, tmp_path: Path) -> None:
    config = transformers.ViTMAEConfig(**SMALL | {"image_size": 32})
    saved = transformers.ViTMAEModel(config).eval()
    saved.save_pretrained(tmp_path)
    encoder = build_encoder(f"hf:{tmp_path}")
    load_weights(encoder, str(tmp_path))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        first = encoder(x).last_hidden_state
        assert first.shape == (2, 17, 16)
        assert torch.equal(first, encoder(x).last_hidden_state)
        saved.config.mask_ratio = 0.0
        shuffled = saved(x)
        restored = shuffled.last_hidden_state[:, 1:].gather(1, shuffled.ids_restore[:, :, None].expand(-1, -1, 16))
        assert torch.allclose(first[:, 1:], restored, atol=1e-5), "in the order of the image"
    with pytest.raises(EncoderError, match=r"Expected `mask_ratio` to be 0, got 0\.75"):
        build_encoder(f"hf:{tmp_path}?mask_ratio=0.75")


@pytest.mark.field("encoder", "transformers: CLIP, SigLIP")
@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_models_of_images_and_text(kind: str, transformers: Any, tmp_path: Path) -> None:
    text = TEXT | {
        "vocab_size": 9,
        "max_position_embeddings": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=SMALL)
    saved = getattr(transformers, f"{kind}Model")(config).eval()
    saved.save_pretrained(tmp_path)
    encoder = build_encoder(f"hf:{tmp_path}")
    loaded = load_weights(encoder, str(tmp_path))
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(encoder(x).last_hidden_state, saved.vision_model(x).last_hidden_state)
    assert any(name.startswith("text_model.") for name in loaded.left)


@pytest.mark.field("encoder", "transformers: SigLIP 2 (NaFlex), V-JEPA 2: refused")
def test_models_that_take_no_images(transformers: Any, tmp_path: Path) -> None:
    vision = {key: value for key, value in SMALL.items() if key != "image_size"} | {"num_patches": 4}
    transformers.Siglip2VisionConfig(**vision).save_pretrained(tmp_path / "siglip2")
    video = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "crop_size": 16, "patch_size": 8}
    small = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "frames_per_clip": 2}
    transformers.VJEPA2Config(**video, **small).save_pretrained(tmp_path / "vjepa2")
    for name, takes in (
        ("siglip2", "Siglip2VisionModel, which takes pixel_values, pixel_attention_mask, spatial_shapes"),
        ("vjepa2", "VJEPA2Model, which takes pixel_values_videos"),
    ):
        with pytest.raises(EncoderError) as error:
            build_encoder(f"hf:{tmp_path / name}")
        assert str(error.value) == (
            f"Expected hf: to name a model of images, got {takes}: write a py: function that returns a module which "
            "makes them of the images"
        )


@pytest.mark.field("checkpoint", "transformers: folders of shards")
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_folders_of_shards(ending: str, transformers: Any, tmp_path: Path) -> None:
    saved = transformers.ViTModel(transformers.ViTConfig(**SMALL))
    saved.save_pretrained(tmp_path, max_shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    if ending == "bin":
        names = {"metadata": {}, "weight_map": dict.fromkeys(saved.state_dict(), "pytorch_model-1.bin")}
        for path in tmp_path.glob("model*"):
            path.unlink()
        torch.save(saved.state_dict(), tmp_path / "pytorch_model-1.bin")
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(names))
    encoder = build_encoder(f"hf:{tmp_path}")
    assert len(load_weights(encoder, str(tmp_path)).files) > 1
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in encoder.state_dict().items())
