"""Untrained encoders memorized nothing: how often memkern.families says otherwise.

    python scripts/untrained_encoders.py [ARCHITECTURE ...] [--seeds S] [--candidates C] [--controls N]

Every seed draws images of 32 x 32 pixels, candidates and controls alike, and two encoders f and g that were never
trained. Printed are, over seeds, the mean share of candidates with p <= .05 (it should lie between .03 and .07), and in
how many seeds any candidate is called (at most .05 of them and three standard errors). Ends with 1 if a number lies
outside. 200 seeds take four minutes of one processor.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

import memkern
from memkern import families

N_VIEWS, EDGE = 4, 32
HEAD = """| encoder | seeds | share with p <= .05 (sd over seeds) | seeds that call an image | verdict without control |
| --- | --- | --- | --- | --- |"""
SHARES = (0.03, 0.07)
CALLED = 0.05


class Residual(nn.Module):
    """A convolution beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, C, H, W]` to the same shape."""
        added: Tensor = self.norm(self.convolution(x))
        return x + added.relu()


class Tokens(nn.Module):
    """Patches of an image as tokens, with places."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(0.02 * torch.randn((EDGE // patch) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, 3, H, W]` to `[B, T, D]`."""
        patches: Tensor = self.patches(x)
        return patches.flatten(2).transpose(1, 2) + self.places


class MeanOfTokens(nn.Module):
    """The mean over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, T, D]` to `[B, D]`."""
        return x.mean(1)


def convolutional() -> nn.Module:
    """Three strided convolutions."""
    widths = (3, 16, 32, 64)
    steps = [
        step
        for before, after in pairwise(widths)
        for step in (nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())
    ]
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def residual() -> nn.Module:
    """Two residual blocks after a strided stem."""
    stem = [nn.Conv2d(3, 16, 4, stride=4), Residual(16), nn.Conv2d(16, 32, 2, stride=2), Residual(32)]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def transformer() -> nn.Module:
    """Two transformer blocks over 16 patches."""
    block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(Tokens(32, 8), nn.TransformerEncoder(block, 2, enable_nested_tensor=False), MeanOfTokens())


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "convolutional": convolutional,
    "residual": residual,
    "transformer": transformer,
}


@dataclass(frozen=True)
class Seed:
    """Of one pair of untrained encoders.

    Attributes:
        share: Share of the candidates with p <= .05.
        called: Whether any candidate is called at a false-discovery rate of 5 %.
        silent: Whether nothing is said without the controls.
    """

    share: float
    called: bool
    silent: bool


def pictures(count: int, seed: int) -> Tensor:
    """Random smooth textures of random contrast, with fine noise: `[N, 3, 32, 32]` uint8."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 6, 6, generator=rng)
    smooth = nn.functional.interpolate(coarse, size=(EDGE, EDGE), mode="bicubic", align_corners=False)
    contrast = 10 + 60 * torch.rand(count, 1, 1, 1, generator=rng)
    fine = 20 * torch.rand(count, 1, 1, 1, generator=rng) * torch.randn(count, 3, EDGE, EDGE, generator=rng)
    return (128 + contrast * smooth + fine).round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def alignments(architecture: str, views: Tensor, seed: int) -> Tensor:
    """Alignment of every image in f and in g, `[N, 2]`, of views `[N, V, 3, H, W]`."""
    columns = []
    for encoder in range(2):
        torch.manual_seed(2 * seed + encoder)
        net = ARCHITECTURES[architecture]().eval()
        outputs = torch.cat([net(batch) for batch in views.flatten(0, 1).split(512)])
        columns.append(torch.as_tensor(memkern.alignment(outputs.view(*views.shape[:2], -1))))
    return torch.stack(columns, 1)


def of_seed(names: list[str], seed: int, candidates: int, controls: int) -> dict[str, Seed]:
    """What is said of a pair of each architecture, on the same images and views."""
    images = pictures(candidates + controls, seed)
    views = torch.as_tensor(memkern.views(images, n_views=N_VIEWS, seed=seed, index=torch.arange(len(images))))
    membership = families.membership_of_groups(["candidate"] * candidates + ["extra"] * controls)
    design, alone = families.design(membership), families.design(membership, control="none")
    found = {}
    for name in names:
        alignment = alignments(name, views, seed)
        scores = families.image_scores(alignment, design)
        without = families.verdict(families.image_scores(alignment, alone), alone)
        share = float((scores.p[0, :candidates] <= 0.05).mean())
        found[name] = Seed(share, bool(scores.memorized.any()), without.n_memorized is None)
    return found


def within(seeds: list[Seed]) -> bool:
    """Whether untrained encoders come out clean."""
    limit = CALLED + 3 * math.sqrt(CALLED * (1 - CALLED) / len(seeds))
    share = float(np.mean([each.share for each in seeds]))
    called = float(np.mean([each.called for each in seeds]))
    return SHARES[0] <= share <= SHARES[1] and called <= limit and all(each.silent for each in seeds)


def line(name: str, seeds: list[Seed]) -> str:
    """The architecture in markdown."""
    shares = np.array([each.share for each in seeds])
    called = sum(each.called for each in seeds)
    silent = "never" if all(each.silent for each in seeds) else "in some seed"
    return f"| {name} | {len(seeds)} | {shares.mean():.3f} ({shares.std(ddof=1):.3f}) | {called} | {silent} |"


def main(arguments: list[str] | None = None) -> int:
    """Measures untrained encoders as the command line says; 1 if a number is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=list(ARCHITECTURES), help="of " + ", ".join(ARCHITECTURES))
    parser.add_argument("--seeds", type=int, default=200, help="pairs of encoders of each architecture (at least 2)")
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--controls", type=int, default=1000)
    options = parser.parse_args(arguments)
    unknown = set(options.architectures) - set(ARCHITECTURES)
    if unknown or options.seeds < 2:
        parser.error(f"expected architectures of {', '.join(ARCHITECTURES)} and 2 or more seeds")
    torch.set_num_threads(1)
    found: dict[str, list[Seed]] = {name: [] for name in options.architectures}
    for seed in range(options.seeds):
        for name, each in of_seed(options.architectures, seed, options.candidates, options.controls).items():
            found[name].append(each)
    print(HEAD)
    for name, seeds in found.items():
        print(line(name, seeds))
    return 0 if all(within(seeds) for seeds in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
