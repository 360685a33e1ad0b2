"""What memkern's views stand beside: torchvision v2 with the same transforms, one image at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from memkern.transforms import ViewSpec


def as_torchvision(spec: ViewSpec, edge: int) -> Any:
    """The transform of torchvision that draws the views of a set; of crops, flips, jitter, grayscale and blur only."""
    from torchvision.transforms import v2

    jitter = v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)
    blur = [v2.RandomApply([v2.GaussianBlur(spec.blur_size, spec.sigma)], spec.blur)] if spec.blur else []
    transform = v2.Compose([
        v2.RandomResizedCrop(edge, spec.scale, spec.ratio), v2.RandomHorizontalFlip(spec.flip),
        v2.RandomApply([jitter], spec.jitter), v2.RandomGrayscale(spec.gray), *blur,
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std),
    ])  # fmt: skip
    read = replace(ViewSpec.from_torchvision(transform), size=spec.size, order=spec.order)
    assert read == spec, f"{read} is not {spec}"
    return transform


class Drawn(Dataset[Tensor]):
    """Views of one image per item `[views, C, h, w]`, for a DataLoader."""

    def __init__(self, images: Tensor, views: int, transform: Any) -> None:
        self.images, self.views, self.transform = images, views, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> Tensor:
        return torch.stack([self.transform(self.images[at]) for _ in range(self.views)])
