"""Random views of uint8 images, beside torchvision v2 one image at a time and kornia batched, at equal recipes.

The peers draw their own parameters, as they do in use: they are not compared by value (the tests do that).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import memkern
from bench import data
from bench.harness import Case, Peer
from bench.torchvision_views import Drawn, as_torchvision
from memkern import reference
from memkern.lab.encoders.resnet9 import ResNet9
from memkern.transforms import PRESETS

# [images, views, edge of an image, edge of a view] preset; * is in the quick subset
SHAPES = ["256x2x32x32 simclr*", "16x10x32x32 simclr", "16x2x256x224 simclr*", "16x2x256x224 simclr-imagenet"]
STRONG = (0.8, 0.8, 0.8, 0.2)


def torchvision_views(images: Tensor, views: int, size: int, preset: str) -> Callable[[], Tensor]:
    transform = as_torchvision(PRESETS[preset], size)
    return lambda: torch.stack([torch.stack([transform(image) for _ in range(views)]) for image in images])


def loader_views(images: Tensor, views: int, size: int, preset: str) -> Callable[[], int]:
    """Two worker processes that stay alive from call to call."""
    dataset = Drawn(images, views, as_torchvision(PRESETS[preset], size))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=max(1, len(images) // 8), num_workers=2, persistent_workers=True
    )
    return lambda: sum(len(batch) for batch in loader)


def kornia_views(images: Tensor, views: int, size: int, blur: bool) -> Callable[[], Tensor]:
    from kornia import augmentation as K

    blurs = [K.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5)] if blur else []
    transform = K.AugmentationSequential(
        K.RandomResizedCrop((size, size)),
        K.RandomHorizontalFlip(),
        K.ColorJiggle(*STRONG, p=0.8),
        K.RandomGrayscale(p=0.2),
        *blurs,
        K.Normalize(0.5, 0.5),
    )
    return lambda: transform(images.repeat_interleave(views, 0).float() / 255)


@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_views(race: Any, shape: str) -> None:
    sizes, preset = shape.split(" ")
    n, views, edge, size = map(int, sizes.split("x"))
    images = torch.randint(256, (n, 3, edge, edge), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blur = PRESETS[preset].blur > 0

    def draw() -> Tensor:
        return memkern.view_params(preset, n_views=views, seed=0, index=range(n), image_size=(edge, edge), size=size)

    # checked on the first four images: torchvision on the same parameters
    truth = reference.views([images[:4]], draw()[:4], size=(size, size), mean=PRESETS[preset].mean,
                            std=PRESETS[preset].std)  # fmt: skip

    def error(got: Any) -> tuple[float, float]:
        worst = float((got[:4].float() - truth).abs().max())
        return worst, worst

    def unchecked(_: Any) -> tuple[float, float]:
        return 0.0, 0.0

    def ours(**options: Any) -> Tensor:
        drawn: Tensor = memkern.views(
            images, n_views=views, transform=preset, seed=0, index=range(n), size=size, **options
        )
        return drawn

    peers = [
        Peer("memkern", ours, "ours"),
        Peer("memkern, channels last", lambda: ours(channels_last=True), "variant"),
        Peer("memkern, bfloat16", lambda: ours(dtype=torch.bfloat16), "variant", budget=2 ** -6),
        Peer("memkern, drawing alone", draw, "yardstick"),
        Peer("torchvision v2 per image", torchvision_views(images, views, size, preset), error=unchecked),
        Peer("torchvision v2, DataLoader of 2 workers", loader_views(images, views, size, preset), error=unchecked),
    ]  # fmt: skip
    if importlib.util.find_spec("kornia"):
        peers.append(Peer("kornia batched", kornia_views(images, views, size, blur), error=unchecked))
    if size == 32:
        encoder = ResNet9().eval().to(memory_format=torch.channels_last)
        batch = ours(channels_last=True).flatten(0, 1)
        peers.append(Peer("ResNet9 forward", lambda: forward(encoder, batch), "yardstick", error=unchecked))
    moved = images.numel() + 4 * truth[0].numel() * n  # bytes read and written once
    race(Case("views", (n, views, edge, size), torch.uint8, moved, error, 2 / 255, variant=preset, peers=peers))


def forward(encoder: ResNet9, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return encoder(batch)
