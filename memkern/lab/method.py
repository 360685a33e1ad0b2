"""Training methods: the views that a method wants, its heads, its loss and its target network."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from memkern.transforms import ViewSpec

MethodOptions = dict[str, Any]
"""Options of a method by name, as JSON holds them: numbers, for the methods there are."""


@dataclass(frozen=True)
class HeadSettings:
    """Settings of the networks behind the encoder; a method takes those it has a use for.

    Attributes:
        hidden: Width of the hidden layers; of MAE's decoder.
        out: Width of the last layer.
        temperature: Temperature of NT-Xent, and of DINO's student.
    """

    hidden: int
    out: int
    temperature: float


@dataclass(frozen=True)
class ViewRequest:
    """Request for some views of every image, all drawn alike, that a step needs.

    Attributes:
        views: What such a view does.
        count: How many of them.
        size: Their edge in pixels; `None`: that of the images.
    """

    views: ViewSpec
    count: int
    size: int | None = None


@dataclass(frozen=True)
class Batch:
    """Batch of a training step.

    Attributes:
        views: One tensor `[N, 3, H, W]` per view, in the order of `Method.view_requests`.
        labels: Class of every image, int64, `[N]`.
        ids: Place of every image in the training set, int64, `[N]`.
        seed: Seed of the training, for what a method draws per image.
        epoch: Epochs done before this one.
        progress: Share of all steps that is done, in [0, 1).
    """

    views: list[Tensor]
    labels: Tensor
    ids: Tensor
    seed: int
    epoch: int
    progress: float


@dataclass(frozen=True)
class Output:
    """Output of the networks for a batch.

    Attributes:
        representations: What the encoder itself returned for each view, `[N, V, D]`.
        parts: What the loss of the method needs.
    """

    representations: Tensor
    parts: tuple[Tensor, ...]


class Method(nn.Module, ABC):
    """An encoder with the heads and the loss that train it.

    A subclass takes the encoder, `HeadSettings` and, by name, options of its own. It builds its heads in `__init__`
    after calling this one, runs the networks in `forward` (that part may run in bfloat16) and turns what they return
    into a scalar in `loss` (that part runs in float32). All that must survive a checkpoint is a parameter or a buffer.

    Args:
        encoder: Maps `[N, 3, H, W]` to `[N, encoder.dim]`.
    """

    needs_labels: ClassVar[bool] = False
    defaults: ClassVar[MethodOptions] = {}
    """The options of the method and their values in its paper, widths excepted."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @staticmethod
    def view_requests(views: ViewSpec, options: MethodOptions) -> list[ViewRequest]:
        """Returns the views of every image that a step needs; most methods take two of the recipe's."""
        return [ViewRequest(views, 2)]

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Runs the networks."""

    @abstractmethod
    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Returns the loss, a scalar."""

    def after_step(self, progress: float) -> None:
        """Called after every step of the optimizer, with the share of the steps that is done then."""

    def encode(self, views: list[Tensor]) -> list[Tensor]:
        """Runs the encoder once on all views of one size, and returns one `[N, D]` per view."""
        joined: list[Tensor] = []
        for same in _runs_of_one_size(views):
            batch = torch.cat(same).to(memory_format=torch.channels_last)
            joined += self.encoder(batch).chunk(len(same))
        return joined


def _runs_of_one_size(views: list[Tensor]) -> Iterable[list[Tensor]]:
    start = 0
    for place in range(1, len(views) + 1):
        if place == len(views) or views[place].shape != views[start].shape:
            yield views[start:place]
            start = place


def frozen_copy(module: nn.Module) -> nn.Module:
    """Returns a copy that no optimizer trains: a target network."""
    target = copy.deepcopy(module)
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    return target


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Moves every parameter of `target` to `momentum * target + (1 - momentum) * online`; buffers stay."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
