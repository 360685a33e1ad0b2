"""Table 16: LayerMem by layer of ResNet34."""

from __future__ import annotations

from memkern.lab.experiments import _resnet_layers

_PAPER = {
    "conv1": 0.037, "maxpool": 0.069, "conv2-1": 0.078, "conv2-6": 0.115, "conv3-1": 0.124, "conv3-8": 0.166,
    "conv4-1": 0.172, "conv4-12": 0.246, "conv5-1": 0.257, "conv5-2": 0.264, "conv5-3": 0.273, "conv5-4": 0.285,
    "conv5-5": 0.299, "conv5-6": 0.313, "avgpool": 0.297,
}  # fmt: skip

EXPERIMENT = _resnet_layers.experiment(16, 34, _PAPER)
