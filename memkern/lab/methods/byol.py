"""BYOL: predict what a slowly moving copy of the network makes of the other view (arXiv:2006.07733)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.lab.method import Batch, HeadSettings, Method, Output, follow, frozen_copy


class BYOL(Method):
    """BYOL: the online network predicts the target network's projection of the other view.

    Args:
        encoder: The encoder.
        settings: Widths of projector and predictor (`hidden`) and of the projection (`out`).
        momentum: Of the target at the first step; it rises to 1 as a half cosine (section 3.3).
    """

    defaults: ClassVar = {"momentum": 0.996}

    def __init__(self, encoder: nn.Module, settings: HeadSettings, *, momentum: float = 0.996) -> None:
        super().__init__(encoder)
        heads = require("lightly.models.modules.heads", "lightly", extra="ssl")
        self.momentum = momentum
        self.projector = heads.BYOLProjectionHead(encoder.dim, settings.hidden, settings.out)
        self.predictor = heads.BYOLPredictionHead(settings.out, settings.hidden, settings.out)
        self.target = frozen_copy(nn.Sequential(encoder, self.projector))
        self.distance = require("lightly.loss", "lightly", extra="ssl").NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> Output:
        """`parts` are the predictions p of both views, then the target's projections t, `[N, out]` each."""
        h = self.encode(batch.views)
        p = [self.predictor(self.projector(view)) for view in h]
        with torch.no_grad():
            t = [self.target(view.contiguous(memory_format=torch.channels_last)) for view in batch.views]
        return Output(torch.stack(h, 1), (*p, *t))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Computes the mean over both directions of 2 - 2 cos(p, t), in [0, 4]."""
        p0, p1, t0, t1 = (part.float() for part in output.parts)
        loss: Tensor = 2 + self.distance(p0, t1) + self.distance(p1, t0)
        return loss

    def after_step(self, progress: float) -> None:
        """Moves the target a little towards the online network."""
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        follow(self.target, nn.Sequential(self.encoder, self.projector), momentum)


METHOD = BYOL
