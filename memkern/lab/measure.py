"""Measures what an encoder pair memorized, with memkern's metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import memkern
from memkern.audit.taps import Tap
from memkern.lab._extras import need
from memkern.lab.augment import ViewSpec, apply_views, numbers_for
from memkern.lab.data import ImageSet
from memkern.lab.resnet9 import TAPS, ResNet9
from memkern.lab.splits import Split

ALL_TAPS = {**TAPS, "output": "pool"}
"""The layers of the paper and, last, the encoder's output, at which SSLMem is measured."""


@dataclass(frozen=True)
class Reading:
    """What one encoder did on one list of images.

    Attributes:
        alignment: Tap -> mean distance between the views of each image, `[N]`.
        unit_means: Tap -> mean activation of each unit over the views, `[N, U]`.
        clean_means: Tap -> mean activation of each unit on the image itself, `[N, U]`.
    """

    alignment: dict[str, Tensor]
    unit_means: dict[str, Tensor]
    clean_means: dict[str, Tensor]


def read(
    encoder: ResNet9,
    data: ImageSet,
    ids: Tensor,
    spec: ViewSpec,
    *,
    n_views: int,
    seed: int,
    batch: int = 16,
    on_batch: Callable[[int], None] | None = None,
) -> Reading:
    """Runs an encoder on seeded views of images and reduces every layer inside the forward pass.

    The views of an image depend on `(seed, id, view)` alone, so two encoders that are read with the same arguments see
    the same views, whatever the order and the batch size.

    Args:
        encoder: The encoder.
        data: The images.
        ids: Which images, int64, shape `[N]`.
        spec: What a view does.
        n_views: Views per image, 2 or more.
        seed: Seed of the views.
        batch: Images per forward pass.
        on_batch: Called after every batch with its number of images.

    Returns:
        The reading, in the order of `ids`.
    """
    viewed: list[dict[str, Any]] = []
    clean: list[dict[str, Any]] = []
    with torch.inference_mode():
        for part in ids.split(batch):
            images = data.floats(part)
            numbers = numbers_for(part, n_views, seed)
            views = torch.stack([apply_views(images, numbers[:, v], spec) for v in range(n_views)], 1)
            with Tap(encoder, ALL_TAPS, n_views=n_views) as tap:
                tap.model(views.flatten(0, 1).to(memory_format=torch.channels_last))
            viewed.append(tap.take())
            with Tap(encoder, ALL_TAPS, n_views=None) as tap:
                tap.model(images.sub(0.5).div(0.5))
            clean.append(tap.take())
            if on_batch is not None:
                on_batch(len(part))
    return Reading(
        {name: torch.cat([stats[name].alignment for stats in viewed]) for name in ALL_TAPS},
        {name: torch.cat([stats[name].unit_means for stats in viewed]) for name in ALL_TAPS},
        {name: torch.cat([stats[name].unit_means for stats in clean]) for name in ALL_TAPS},
    )
