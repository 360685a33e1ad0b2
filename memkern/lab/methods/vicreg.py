"""VICReg: invariance, variance and covariance of two views' embeddings (arXiv:2105.04906)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.lab.method import Batch, HeadSettings, Method, Output


class VICReg(Method):
    """Two views agree, every dimension keeps its spread, no two dimensions say the same.

    Args:
        encoder: The encoder.
        settings: Widths of the expander's hidden layer and of the embedding.
        invariance: Weight of the invariance term (lambda).
        variance: Weight of the variance term (mu).
        covariance: Weight of the covariance term (nu).
    """

    defaults: ClassVar = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}

    def __init__(
        self,
        encoder: nn.Module,
        settings: HeadSettings,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        heads = require("lightly.models.modules.heads", "lightly", extra="ssl")
        self.expander = heads.VICRegProjectionHead(encoder.dim, settings.hidden, settings.out)
        self.terms = require("lightly.loss", "lightly", extra="ssl").VICRegLoss(
            invariance, variance, covariance, gather_distributed=torch.distributed.is_available()
        )

    def forward(self, batch: Batch) -> Output:
        """`parts` are the embeddings of both views, `[N, out]` each."""
        h = self.encode(batch.views)
        return Output(torch.stack(h, 1), tuple(self.expander(view) for view in h))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Computes the weighted sum of the three terms."""
        a, b = (part.float() for part in output.parts)
        loss: Tensor = self.terms(a, b)
        return loss


METHOD = VICReg
