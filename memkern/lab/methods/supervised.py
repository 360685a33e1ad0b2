"""Supervised training with cross entropy: the contrast to the self-supervised methods."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from memkern.lab.method import Batch, HeadSettings, Method, MethodOptions, Output, ViewRequest
from memkern.transforms import ViewSpec


class Supervised(Method):
    """A linear head on the encoder says the class of one view; the head is dropped after training.

    Args:
        encoder: The encoder.
        settings: Of no use here: the head is one linear layer.
        n_classes: Number of classes; the trainer fills it in.
    """

    needs_labels = True
    defaults: ClassVar = {"n_classes": 10}

    def __init__(self, encoder: nn.Module, settings: HeadSettings, *, n_classes: int = 10) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(int(encoder.dim), n_classes)  # type: ignore[arg-type]

    @staticmethod
    def view_requests(views: ViewSpec, options: MethodOptions) -> list[ViewRequest]:
        """Returns one view, as supervised training augments; `replace` keeps the spec's own strength."""
        return [ViewRequest(replace(views), 1)]

    def forward(self, batch: Batch) -> Output:
        """`parts` is the logits, `[N, n_classes]`."""
        (h,) = self.encode(batch.views)
        return Output(torch.stack([h], 1), (self.head(h),))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Mean cross entropy, in nats."""
        return functional.cross_entropy(output.parts[0].float(), batch.labels)


METHOD = Supervised
