"""Table 17: LayerMem by layer of ResNet50."""

from __future__ import annotations

from memkern.lab.experiments import _resnet_layers

_PAPER = {
    "conv1": 0.046, "maxpool": 0.066, "conv2-1": 0.071, "conv2-2": 0.068, "conv2-9": 0.103, "conv3-1": 0.109,
    "conv3-12": 0.165, "conv4-1": 0.168, "conv4-18": 0.279, "conv5-1": 0.292, "conv5-9": 0.335, "avgpool": 0.328,
}  # fmt: skip

EXPERIMENT = _resnet_layers.experiment(17, 50, _PAPER)
