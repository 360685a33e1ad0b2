"""Models of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights


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
