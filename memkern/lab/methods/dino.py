"""DINO: a student matches the centered, sharpened output of its own slow average (arXiv:2104.14294)."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.lab.method import Batch, HeadSettings, Method, MethodOptions, Output, ViewRequest, follow, frozen_copy
from memkern.transforms import ViewSpec


class DINO(Method):
    """DINO: every view's student output is compared with the teacher's output of each other global view.

    Args:
        encoder: The encoder; with local views of another size it must take both sizes.
        settings: Width of the head's hidden layers, number of prototypes (`out`), temperature of the student.
        teacher_temperature: Temperature of the teacher.
        momentum: Of the teacher at the first step; it rises to 1 as a half cosine.
        bottleneck: Width before the prototypes.
        n_local: Local views beside the two global ones.
        local_size: Edge of a local view, pixels; 0: that of the images.
    """

    defaults: ClassVar = {
        "teacher_temperature": 0.04,
        "momentum": 0.996,
        "bottleneck": 256,
        "n_local": 0,
        "local_size": 0,
    }

    def __init__(
        self,
        encoder: nn.Module,
        settings: HeadSettings,
        *,
        teacher_temperature: float = 0.04,
        momentum: float = 0.996,
        bottleneck: int = 256,
        n_local: int = 0,
        local_size: int = 0,
    ) -> None:
        super().__init__(encoder)
        heads = require("lightly.models.modules.heads", "lightly", extra="ssl")
        self.momentum = momentum
        self.head = heads.DINOProjectionHead(encoder.dim, settings.hidden, bottleneck, settings.out)
        self.teacher = nn.ModuleDict({"encoder": frozen_copy(encoder), "head": _frozen_head(self.head, heads)})
        self.cross_entropy = require("lightly.loss", "lightly", extra="ssl").DINOLoss(
            output_dim=settings.out,
            student_temp=settings.temperature,
            teacher_temp=teacher_temperature,
            warmup_teacher_temp_epochs=0,
        )

    @staticmethod
    def view_requests(views: ViewSpec, options: MethodOptions) -> list[ViewRequest]:
        """Returns two global views of the recipe and, if asked for, local ones: crops of 5 to 40 % of the area."""
        requests = [ViewRequest(views, 2)]
        if options.get("n_local", 0):
            local = replace(views, scale=(0.05, 0.4))
            requests.append(ViewRequest(local, options["n_local"], options.get("local_size") or None))
        return requests

    def forward(self, batch: Batch) -> Output:
        """`parts` are the teacher's two outputs, then the student's for every view, `[N, out]` each."""
        h = self.encode(batch.views)
        student = [self.head(view) for view in h]
        with torch.no_grad():
            pair = torch.cat(batch.views[:2]).to(memory_format=torch.channels_last)
            teacher = self.teacher["head"](self.teacher["encoder"](pair)).chunk(2)
        return Output(torch.stack(h[:2], 1), (*teacher, *student))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Computes the mean cross entropy over all pairs of different views; moves the teacher's center, too."""
        parts = [part.float() for part in output.parts]
        loss: Tensor = self.cross_entropy(parts[:2], parts[2:])
        return loss

    def after_step(self, progress: float) -> None:
        """Moves the teacher a little towards the student."""
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        follow(self.teacher["encoder"], self.encoder, momentum)
        follow(self.teacher["head"], self.head, momentum)


def _frozen_head(head: nn.Module, heads: ModuleType) -> nn.Module:
    """A frozen copy; weight normalization keeps a tensor that cannot be deep-copied, so the head is built again."""
    layers: Any = head  # lightly has no types
    first, last = layers.layers[0], layers.last_layer
    twin = heads.DINOProjectionHead(first.in_features, first.out_features, last.in_features, last.out_features)
    twin.load_state_dict(head.state_dict())
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    frozen: nn.Module = twin
    return frozen


METHOD = DINO
