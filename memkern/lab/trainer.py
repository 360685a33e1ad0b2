"""Trains one encoder on a list of images.

Seeded and resumable: the same seed, thread count and torch give the same bits, stopped in between or not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import memkern
from memkern.lab.files import replace_atomically
from memkern.lab.methods.simclr import nt_xent, projector
from memkern.lab.resnet9 import ResNet9
from memkern.transforms import ViewSpec

VIEWS = ViewSpec(flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2)
"""The random views of the lab: SimCLR's for small images, with half its color strength."""


@dataclass(frozen=True)
class Recipe:
    """How an encoder is trained with SimCLR.

    Attributes:
        epochs: Passes over the training images.
        batch: Images per step; what is left of an epoch after the last full batch is dropped.
        lr: Largest learning rate of AdamW.
        warmup: Share of the steps over which the learning rate rises linearly; afterwards it falls as a half
            cosine.
        weight_decay: Decoupled weight decay.
        temperature: Temperature of NT-Xent.
        hidden: Width of the projector's hidden layer.
        out: Width of the projection.
        views: The random views that are pulled together; the same are used to measure.
    """

    epochs: int
    batch: int
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    temperature: float = 0.2
    hidden: int = 256
    out: int = 128
    views: ViewSpec = VIEWS

    def learning_rate(self, step: int, steps: int) -> float:
        """Returns the learning rate of step `step` (from 0) of `steps`."""
        rise = max(1, round(steps * self.warmup))
        return self.lr * min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * step / steps)))


class Training:
    """The state of one training run.

    The arithmetic is bfloat16 where autocast allows it and float32 elsewhere.

    Args:
        images: Training images in [0, 1], float32, shape `[N, 3, 32, 32]`.
        recipe: How to train.
        seed: Seed of the weights, the order of the images and the views.

    Attributes:
        losses: Mean loss of every epoch so far, in nats.
        cpu_seconds: CPU time spent in them, by all threads together.

    Raises:
        ValueError: If there are fewer images than one batch holds.
    """

    def __init__(self, images: Tensor, recipe: Recipe, seed: int) -> None:
        if len(images) < recipe.batch:
            raise ValueError(f"Expected {recipe.batch} training images (one batch) or more, got {len(images)}")
        self.images, self.recipe, self.seed = images, recipe, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ResNet9()
            self.model = nn.ModuleDict({"encoder": encoder, "projector": projector(256, recipe.hidden, recipe.out)})
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self.generator = torch.Generator().manual_seed(seed + 1_000_000)
        self.losses: list[float] = []
        self.cpu_seconds = 0.0

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.losses)

    def run_epoch(self) -> float:
        """Trains one epoch and returns its mean loss, in nats."""
        recipe, start = self.recipe, time.process_time()
        per_epoch = len(self.images) // recipe.batch
        order = torch.randperm(len(self.images), generator=self.generator)
        self.model.train()
        total = 0.0
        for i, ids in enumerate(order[: per_epoch * recipe.batch].split(recipe.batch)):
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate(self.epoch * per_epoch + i, recipe.epochs * per_epoch)
            total += self._step(ids)
        self.losses.append(total / per_epoch)
        self.cpu_seconds += time.process_time() - start
        return self.losses[-1]

    def _step(self, ids: Tensor) -> float:
        # Two views of each image; every epoch has view numbers of its own, so a resumed run draws the same ones.
        pairs = memkern.views(
            self.images[ids],
            n_views=2,
            transform=self.recipe.views,
            seed=self.seed,
            index=ids,
            first_view=2 * self.epoch,
            channels_last=True,
        )
        views = pairs.transpose(0, 1).flatten(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            z = self.model["projector"](self.model["encoder"](views.to(memory_format=torch.channels_last)))
        loss = nt_xent(*z.chunk(2), temperature=self.recipe.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def encoder(self) -> ResNet9:
        """Returns the encoder, in eval mode."""
        encoder = self.model["encoder"]
        assert isinstance(encoder, ResNet9)
        return encoder.eval()

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which `load` goes on with the same bits."""
        state = {
            "key": self._key(),
            "losses": self.losses,
            "cpu_seconds": self.cpu_seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        with replace_atomically(path) as part:
            torch.save(state, part)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: If the checkpoint belongs to another recipe, seed or set of images.
        """
        state = torch.load(path, weights_only=True)
        if state["key"] != self._key():
            raise ValueError(
                f"Expected {path} to be a checkpoint of this recipe, seed and data; it is of {state['key']}"
            )
        self.losses, self.cpu_seconds = state["losses"], state["cpu_seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])

    def _key(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.images.contiguous().numpy().tobytes()).hexdigest()
        return {"recipe": asdict(self.recipe), "seed": self.seed, "images": digest}


def train(
    images: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    checkpoint: Path | None = None,
    every: int = 50,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Training:
    """Trains an encoder, going on from `checkpoint` if that file exists.

    Args:
        images: Training images in [0, 1], float32, shape `[N, 3, 32, 32]`.
        recipe: How to train.
        seed: Seed of the weights, the order of the images and the views.
        checkpoint: File to go on from and to write to every `every` epochs and at the end; `None` keeps
            nothing.
        every: Epochs between two checkpoints.
        on_epoch: Called after every epoch with the number of epochs done and their last mean loss.

    Returns:
        The finished training: its `encoder()`, `losses` and `cpu_seconds`.

    Raises:
        ValueError: If there are fewer images than a batch holds, or the checkpoint belongs to another
            training.
    """
    training = Training(images, recipe, seed)
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint)
    while training.epoch < recipe.epochs:
        loss = training.run_epoch()
        if checkpoint is not None and (training.epoch % every == 0 or training.epoch == recipe.epochs):
            training.save(checkpoint)
        if on_epoch is not None:
            on_epoch(training.epoch, loss)
    return training
