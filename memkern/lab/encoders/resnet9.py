"""ResNet9 for 32x32 images, the encoder of the ResNet9 experiments of arXiv:2409.19069 (Table 8)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS: dict[str, str] = {
    "conv1": "conv1",
    "conv2-0": "conv2_0",
    "conv2-1": "conv2_1",
    "conv2-2": "conv2_2",
    "Res2": "res2",
    "conv3": "conv3",
    "conv4-0": "conv4_0",
    "conv4-1": "conv4_1",
    "conv4-2": "conv4_2",
    "Res6": "res6",
}
"""The paper's layer names, in order of depth, and the modules whose outputs they are."""

WIDTH, NARROW = 32, 12
"""Channels of the first convolution: the paper's, and those of `resnet9-narrow`, which has a seventh of the weights."""

CONV_TAPS: tuple[str, ...] = tuple(name for name in TAPS if name.startswith("conv"))
"""The eight convolutional layers: 32 + 3 * 64 + 128 + 3 * 256 = 1,120 units in all."""


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution, padding 1, that trains small maps as one matrix product.

    The CPU convolution of a 2x2 map spends most of its backward pass on the padding. With the nine neighbors
    of every position gathered first, the same sum is a plain matrix product, which is faster. Parameters, state
    dict and (up to rounding) results are those of `nn.Conv2d`.

    Args:
        n_in: Input channels.
        n_out: Output channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves `x`, shape `[N, n_in, H, W]`, to `[N, n_out, H, W]`."""
        n, c, h, w = x.shape
        if not self.training or h * w > 16 or x.device.type != "cpu":
            return super().forward(x)
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        taps = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        matrix = self.weight.permute(2, 3, 1, 0).reshape(9 * c, -1)
        out = functional.linear(torch.stack(taps, 3).reshape(-1, 9 * c), matrix.T, self.bias)
        return out.view(n, h, w, -1).permute(0, 3, 1, 2)


class Add(nn.Module):
    """Sum of a skip connection, as a module of its own so that a forward hook can see it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns `x + y`, `[N, C, H, W]` each."""
        return x + y


def _block(n_in: int, n_out: int, *, pool: bool) -> nn.Sequential:
    """Convolution with bias, batch norm, ReLU (not in place: hooks must see what a module returned), pool."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=Conv3x3(n_in, n_out), bn=nn.BatchNorm2d(n_out), relu=nn.ReLU()
    )
    if pool:
        parts["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(parts)


class ResNet9(nn.Module):
    """Eight convolutional blocks with two real skip connections.

    Takes `[N, 3, 32, 32]`, gives `[N, 8 * width]` without a head and `[N, n_classes]` with one. The layers of the
    paper are the outputs of the modules in `TAPS`: for a convolution, the block's output after batch norm,
    ReLU and (where the block has one) max pooling; for `Res2` and `Res6`, the sums of the skip connections.

    Args:
        n_classes: Width of the linear head; `None` builds the encoder alone. With a 10-way head the network
            has 1,647,242 parameters.
        width: Channels of the first convolution; the others have twice, four and eight times as many.
    """

    taps = TAPS
    unit_taps = {name: TAPS[name] for name in CONV_TAPS}  # noqa: RUF012  (a constant, as in every encoder)
    output = "pool"

    def __init__(self, n_classes: int | None = None, width: int = WIDTH) -> None:
        super().__init__()
        self.dim = 8 * width
        self.conv1 = _block(3, width, pool=True)
        self.conv2_0 = _block(width, 2 * width, pool=True)
        self.conv2_1 = _block(2 * width, 2 * width, pool=False)
        self.conv2_2 = _block(2 * width, 2 * width, pool=False)
        self.res2 = Add()
        self.conv3 = _block(2 * width, 4 * width, pool=True)
        self.conv4_0 = _block(4 * width, self.dim, pool=True)
        self.conv4_1 = _block(self.dim, self.dim, pool=False)
        self.conv4_2 = _block(self.dim, self.dim, pool=False)
        self.res6 = Add()
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Identity() if n_classes is None else nn.Linear(self.dim, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes `x`, shape `[N, 3, 32, 32]`, as `[N, 8 * width]` (or `[N, n_classes]` with a head)."""
        x = self.conv2_0(self.conv1(x))
        x = self.res2(self.conv2_2(self.conv2_1(x)), x)
        x = self.conv4_0(self.conv3(x))
        x = self.res6(self.conv4_2(self.conv4_1(x)), x)
        out: Tensor = self.head(self.pool(x))
        return out
