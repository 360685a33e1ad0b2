"""Backbones as lightly's examples build them."""

from __future__ import annotations

import pytest
import torch

from memkern.audit.encoders.build import build_encoder


def test_models_come_without_their_last_layer() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert build_encoder("lightly:squeezenet1_1")(torch.rand(2, 3, 32, 32)).shape[:2] == (2, 512)
