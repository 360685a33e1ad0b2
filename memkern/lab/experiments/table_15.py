"""Table 15: LayerMem by layer of ResNet18."""

from __future__ import annotations

from memkern.lab.experiments import _resnet_layers

_PAPER = {
    "conv1": 0.074, "maxpool": 0.092, "conv2-1": 0.101, "conv2-2": 0.110, "conv2-3": 0.123, "conv2-4": 0.134,
    "conv3-1": 0.146, "conv3-2": 0.155, "conv3-3": 0.166, "conv3-4": 0.183, "conv4-1": 0.193, "conv4-2": 0.206,
    "conv4-3": 0.220, "conv4-4": 0.239, "conv5-1": 0.246, "conv5-2": 0.257, "conv5-3": 0.272, "conv5-4": 0.295,
    "avgpool": 0.266,
}  # fmt: skip

EXPERIMENT = _resnet_layers.experiment(15, 18, _PAPER)
