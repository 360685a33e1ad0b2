"""Models of timm."""

from __future__ import annotations

import pytest
import torch

from memkern.audit.encoders.build import build_encoder


def test_models_come_without_a_classifier() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    vit = "timm:vit_tiny_patch16_224?img_size=32&embed_dim=24&num_heads=2&depth=1"
    x = torch.rand(2, 3, 32, 32)
    assert build_encoder(vit)(x).shape == (2, 24)
    assert build_encoder(f"{vit}&num_classes=5")(x).shape == (2, 5)
