"""Models of torchvision."""

from __future__ import annotations

import pytest
import torch

from memkern.audit.encoders.build import build_encoder


def test_models_take_the_arguments_of_their_constructor() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    x = torch.rand(2, 3, 32, 32)
    assert build_encoder("torchvision:squeezenet1_1?num_classes=7")(x).shape == (2, 7)
