"""SimSiam: no negatives, no target network, a stop-gradient (Chen and He 2020, arXiv:2011.10566)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.lab.method import Batch, HeadSettings, Method, Output


class SimSiam(Method):
    """SimSiam: the prediction from one view is pulled to the other view's projection, which gets no gradient.

    It trains on a single image too, which a contrastive method cannot.

    Args:
        encoder: The encoder.
        settings: Width of the projector's hidden layers, and of the projection; the predictor's hidden layer has a
            quarter of the latter.
    """

    def __init__(self, encoder: nn.Module, settings: HeadSettings) -> None:
        super().__init__(encoder)
        heads = require("lightly.models.modules.heads", "lightly", extra="ssl")
        self.projector = heads.SimSiamProjectionHead(encoder.dim, settings.hidden, settings.out)
        self.predictor = heads.SimSiamPredictionHead(settings.out, max(1, settings.out // 4), settings.out)
        self.distance = require("lightly.loss", "lightly", extra="ssl").NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> Output:
        """Projects each view and predicts from it; `parts` are z of both views, then p of both, `[N, out]` each."""
        h = self.encode(batch.views)
        # View by view: the batch norm of the heads must not mix the two views of an image.
        z = [self.projector(view) for view in h]
        p = [self.predictor(view) for view in z]
        return Output(torch.stack(h, 1), (*z, *p))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Half the sum of the two negative cosine similarities, in [-1, 1]."""
        z0, z1, p0, p1 = (part.float() for part in output.parts)
        half: Tensor = 0.5 * (self.distance(p0, z1.detach()) + self.distance(p1, z0.detach()))
        return half


METHOD = SimSiam
