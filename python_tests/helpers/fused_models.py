"""Small models whose layers can be fused, or must not be, and how they are tapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memkern.audit.taps.tap import Tap, TapStats

VIEWS = 4


class Block(nn.Module):
    """As torchvision's: one ReLU for two places, in place or not, and a sum between them."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Before(nn.Module):
    """Batch norm first, whose output others read too: the ReLU behind it must not be done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.relu, self.conv = nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return self.conv(self.relu(y)) + y


class Changed(nn.Module):
    """A convolution whose output is overwritten before the batch norm reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x).mul_(2)))


class Returned(nn.Module):
    """The model hands out what the batch norm made, beside what comes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.relu = nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.bn(x)
        return self.relu(y), y


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.act, self.fc2 = nn.LayerNorm(6), nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Branches(nn.Module):
    """A convolution that two batch norms read, one of which two layers read; a sum of all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.left, self.right = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        right = self.right(y)
        return self.relu(self.left(y)) + self.relu(right) + right


class Shared(nn.Module):
    """One convolution, batch norm and ReLU for two places: behind one another, and once with others that read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(self.relu(self.bn(self.conv(x)))))
        return self.relu(y) - y


class Viewed(nn.Module):
    """A batch norm whose output a ReLU reads, and somebody else through a view made before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        rows = y.flatten(2)
        return self.relu(y) + rows.mean(2)[:, :, None, None]


class Transposed(nn.Module):
    """Tokens whose points lie between the elements of a view, and a batch norm on memory of no usual order."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.act, self.relu = nn.BatchNorm1d(6), nn.GELU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute(2, 0, 1).contiguous()  # [T, rows, C]
        y = self.bn(x.flatten(2).transpose(1, 2).contiguous().transpose(1, 2))
        return self.relu(self.act(tokens.transpose(0, 1))) + y.transpose(1, 2)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "block": lambda: Block(inplace=False),
    "block in place": lambda: nn.Sequential(nn.Conv2d(6, 6, 3), Block(inplace=True)),
    "before": Before,
    "changed": Changed,
    "returned": Returned,
    "tokens": Tokens,
    "vgg": lambda: nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True)),
    "gelu behind a norm": lambda: nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.GELU()),
    "points": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6 * 64, 10), nn.BatchNorm1d(10), nn.ReLU()),
    "one pixel": lambda: nn.Sequential(nn.Conv2d(6, 8, 8), nn.BatchNorm2d(8), nn.ReLU()),
    "branches": Branches,
    "shared": Shared,
    "viewed": Viewed,
    "transposed": Transposed,
    "first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
}


def made(which: str) -> nn.Module:
    torch.manual_seed(3)
    model = MODELS[which]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            module.weight.data = torch.rand(module.num_features) + 0.5
            module.bias.data = torch.randn(module.num_features)
    return model.eval()


def batch(seed: int = 0, points: int = 3) -> Tensor:
    return torch.randn(points * VIEWS, 6, 8, 8, generator=torch.Generator().manual_seed(seed))


def tap_of(model: nn.Module, **options: Any) -> Tap:
    return Tap(model, "*", n_views=VIEWS, example=batch()[:2], **options)


def passed(tap: Tap, x: Tensor) -> tuple[Any, dict[str, TapStats]]:
    with tap, torch.inference_mode():
        output = tap.model(x.clone())
        return output, tap.take()


def assert_same(got: dict[str, TapStats], want: dict[str, TapStats]) -> None:
    assert list(got) == list(want)
    for name in want:
        for one, other in zip(got[name], want[name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
