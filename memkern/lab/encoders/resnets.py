"""ResNet18, 34 and 50 of torchvision, with a module for every place that is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require

_resnet: Any = require("torchvision.models.resnet", "torchvision", extra="ssl")


class Basic(_resnet.BasicBlock):  # type: ignore[misc]  # torchvision has no types
    """torchvision's basic block; its two activations are two modules, so that a hook can tell them apart."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.relu = nn.Identity()
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[N, C, H, W]` to `[N, planes, H / stride, W / stride]`."""
        skip = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(x)) + skip)
        return out


class Bottleneck(_resnet.Bottleneck):  # type: ignore[misc]
    """torchvision's bottleneck with three activations of its own."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.relu = nn.Identity()
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[N, C, H, W]` to `[N, 4 * planes, H / stride, W / stride]`."""
        skip = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        out: Tensor = self.relu3(self.bn3(self.conv3(x)) + skip)
        return out


BLOCKS: dict[str, tuple[type[nn.Module], list[int]]] = {
    "resnet18": (Basic, [2, 2, 2, 2]),
    "resnet34": (Basic, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class ResNet(nn.Module):
    """A torchvision ResNet without its classifier.

    Args:
        name: `resnet18`, `resnet34` or `resnet50`.
        cifar: The stem for 32 pixels: a 3x3 convolution of stride 1 and no pooling, instead of 7x7 and stride 2.

    Attributes:
        dim: Length of a representation.
        taps: The rows of arXiv:2409.19069, Tables 15 to 17, and the modules whose outputs they are.
        unit_taps: Where UnitMem is measured: after the activation that follows a convolution. For the last
            convolution of a block that is the block's output, skip included.
        output: The module at which SSLMem is measured.
    """

    output = "net.fc"

    def __init__(self, name: str, *, cifar: bool) -> None:
        super().__init__()
        block, layers = BLOCKS[name]
        self.net = _resnet.ResNet(block, layers)
        self.dim = int(self.net.fc.in_features)
        self.net.fc = nn.Identity()
        self.net.relu = nn.ReLU()  # not in place: hooks must see what a module returned
        if cifar:
            self.net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.net.maxpool = nn.Identity()
        self.taps, self.unit_taps = {"conv1": "net.conv1"}, {"conv1": "net.relu"}
        if not cifar:
            self.taps["maxpool"] = "net.maxpool"
        depth = 3 if block is Bottleneck else 2
        for stage, count in enumerate(layers, 1):
            for place in range(count * depth):
                unit, conv = divmod(place, depth)
                row, module = f"conv{stage + 1}-{place + 1}", f"net.layer{stage}.{unit}"
                self.taps[row] = f"{module}.conv{conv + 1}"
                self.unit_taps[row] = f"{module}.relu{conv + 1}"
        self.taps["avgpool"] = "net.avgpool"

    def forward(self, x: Tensor) -> Tensor:
        """Encodes `[N, 3, H, W]` as `[N, dim]`."""
        out: Tensor = self.net(x)
        return torch.flatten(out, 1)
