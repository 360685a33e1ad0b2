"""Trains one encoder on a list of images.

Seeded and resumable: the same seed, thread count and torch give the same bits, stopped in between or not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import memkern
from memkern._util.files import strip_prefix
from memkern._util.records import Json, Record
from memkern.errors import ArgumentValueError, WeightsError
from memkern.lab.distributed import mean_over_processes, rank_and_world
from memkern.lab.encoders.build import build
from memkern.lab.method import Batch, HeadSettings, Method
from memkern.lab.training import checkpoint
from memkern.lab.training.dp_sgd import Privacy, check_private
from memkern.lab.training.recipe import Recipe, build_optimizer
from memkern.lab.training.registry import load_method

PARTS = ("views", "forward", "backward", "metrics")
"""Parts that the time of a step is spent on; the optimizer's share is in `backward`."""


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of a training: the file, and how often it is written.

    Attributes:
        path: The file (safetensors).
        every: Epochs between two writes; the last epoch is always written.
    """

    path: Path
    every: int = 50

    def due(self, epoch: int, epochs: int) -> bool:
        """Tells whether to write after `epoch` of `epochs`."""
        return epoch % self.every == 0 or epoch == epochs


@dataclass(frozen=True)
class Notes(Record):
    """Notes of a checkpoint, beside its tensors.

    Attributes:
        key: Digest of all that the checkpoint must agree in with the training that goes on.
        losses: Mean loss of every epoch.
        cpu_seconds: CPU time spent.
        seconds: Wall time spent, by part (`PARTS`).
        privacy: What the accountant of DP-SGD has booked; `None` without privacy.
    """

    ERROR = WeightsError

    key: Mapping[str, object]
    losses: tuple[float, ...]
    cpu_seconds: float
    seconds: Mapping[str, float]
    privacy: tuple[tuple[float, ...], ...] | None


class Training:
    """Training run of one encoder.

    Under torchrun every process holds one; each step they share the images of a batch, and the loss and its gradient
    are those of the whole batch (batch norm sees its own process's images only).

    Args:
        images: Training images, `[N, 3, H, W]`: float32 in [0, 1], or uint8.
        recipe: How to train.
        seed: Seed of the weights, the order of the images and the views.
        labels: Class of every image, int64, `[N]`, for supervised training.
        device: Where to train.

    Attributes:
        model: The method with its encoder, heads and target network.
        losses: Mean loss of every epoch so far.
        cpu_seconds: CPU time spent in them, by all threads together.
        seconds: Wall time spent in them, by part (`PARTS`).

    Raises:
        ArgumentValueError: If there are fewer images than one batch holds, labels are missing, or the recipe names
            something that does not exist.
    """

    def __init__(
        self,
        images: Tensor,
        recipe: Recipe,
        seed: int,
        *,
        labels: Tensor | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if len(images) < recipe.batch:
            raise ArgumentValueError(f"Expected {recipe.batch} training images (one batch) or more, got {len(images)}")
        check_private(recipe)
        kind = load_method(recipe.method)
        if labels is None and kind.needs_labels:
            raise ArgumentValueError(f"Expected `labels` of the images, which {recipe.method} training needs")
        self.device = torch.device(device)
        self.images, self.recipe, self.seed = images.to(self.device), recipe, seed
        self.labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
        self.rank, self.world = rank_and_world()
        if recipe.batch % self.world:
            raise ArgumentValueError(
                f"Expected `batch` to be a multiple of the {self.world} processes, got {recipe.batch}"
            )
        options = dict(recipe.options)
        if kind.needs_labels:
            options.setdefault("n_classes", int(self.labels.max()) + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build(recipe.encoder, image_size=images.shape[-1])
            make: Callable[..., Method] = kind  # each method has options of its own
            self.model = make(encoder, HeadSettings(recipe.hidden, recipe.out, recipe.temperature), **options)
        self.view_requests = kind.view_requests(recipe.views, options)
        # Opacus returns contiguous gradients, and fused AdamW takes no other layout than the parameter's.
        layout = torch.channels_last if recipe.epsilon is None else torch.contiguous_format
        self.model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, recipe)
        self.generator = torch.Generator().manual_seed(seed + 1_000_000)
        self.network: nn.Module = self.model
        self.privacy: Privacy | None = None
        if recipe.epsilon is not None:
            self.privacy = Privacy(self.model, self.optimizer, recipe, len(images), self.generator)
            self.network, self.optimizer = self.privacy.network, self.privacy.optimizer
        elif self.world > 1:
            self.network = DistributedDataParallel(self.model)
        if recipe.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        self.losses: list[float] = []
        self.cpu_seconds = 0.0
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @property
    def epoch(self) -> int:
        """Number of epochs that are done."""
        return len(self.losses)

    @property
    def steps(self) -> int:
        """Number of steps of an epoch."""
        return len(self.images) // self.recipe.batch

    def run_epoch(self) -> float:
        """Trains one epoch and returns its mean loss."""
        start = time.process_time()
        self.model.train()
        total = torch.zeros((), dtype=torch.float64)
        with self._randomness():
            for i, ids in enumerate(self._batches()):
                step, steps = self.epoch * self.steps + i, self.recipe.epochs * self.steps
                for group in self.optimizer.param_groups:
                    group["lr"] = self.recipe.learning_rate(step, steps)
                total += self._step(ids[self.rank :: self.world], step, steps)
        self.losses.append(mean_over_processes(total) / self.steps)
        self.cpu_seconds += time.process_time() - start
        return self.losses[-1]

    def _batches(self) -> Iterator[Tensor]:
        """Yields the images of each step: a random order cut into batches, or, for privacy, drawn image by image."""
        if self.privacy is not None:
            yield from self.privacy.batches(self.steps)
            return
        order = torch.randperm(len(self.images), generator=self.generator)
        yield from order[: self.steps * self.recipe.batch].split(self.recipe.batch)

    @contextmanager
    def _randomness(self) -> Iterator[None]:
        """Random numbers of the layers (stochastic depth) that depend on seed and epoch alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(1_000_003 * (self.seed + 1) + 7919 * self.epoch + self.rank)
            yield

    def _step(self, ids: Tensor, step: int, steps: int) -> float:
        recipe = self.recipe
        with self._timed("views"):
            batch = self._batch(ids, step / steps)
        with self._timed("forward"):
            enabled = recipe.precision == "bf16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
                output = self.network(batch)
            loss = self.model.loss(output, batch)
            if recipe.alignment:
                loss = loss + recipe.alignment * memkern.alignment_loss(output.representations)
        with self._timed("backward"):
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.model.after_step((step + 1) / steps)
        return loss.item()

    def _batch(self, ids: Tensor, progress: float) -> Batch:
        # Every epoch has view numbers of its own, so a resumed run draws the same ones.
        per_epoch, first, views = sum(request.count for request in self.view_requests), 0, []
        for request in self.view_requests:
            drawn = memkern.views(
                self.images[ids],
                n_views=request.count,
                transform=request.views,
                seed=self.seed,
                index=ids,
                size=request.size,
                first_view=per_epoch * self.epoch + first,
                channels_last=True,
            )
            views += list(drawn.unbind(1))
            first += request.count
        return Batch(views, self.labels[ids].to(self.device), ids, self.seed, self.epoch, progress)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[part] += time.perf_counter() - start

    def measured(self, metrics: Callable[[Training], None]) -> None:
        """Calls `metrics(self)` and books its time under "metrics"; training goes on with the same bits."""
        with self._timed("metrics"):
            metrics(self)

    def timing(self) -> str:
        """Says how long a step takes, and the share of each part of `PARTS`."""
        total, steps = sum(self.seconds.values()), max(1, self.epoch * self.steps)
        shares = ", ".join(f"{part} {100 * spent / max(total, 1e-12):.0f} %" for part, spent in self.seconds.items())
        return f"{1000 * total / steps:.1f} ms a step: {shares}"

    def encoder(self) -> nn.Module:
        """Returns the encoder, a `memkern.lab.encoders.build.Encoder`, in eval mode."""
        return self.model.encoder.eval()

    def save(self, path: Path) -> None:
        """Writes a checkpoint (safetensors) from which `load` goes on with the same bits."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= checkpoint.optimizer_tensors(self.optimizer)
        tensors["generator"] = self.generator.get_state()
        if self.privacy is not None:
            tensors["noises"] = self.privacy.noises.get_state()
        booked = None if self.privacy is None else tuple(map(tuple, self.privacy.history()))
        notes = Notes(self._key(), tuple(self.losses), self.cpu_seconds, self.seconds, booked)
        checkpoint.write(path, tensors, notes.to_json())

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Args:
            path: The checkpoint.

        Raises:
            ArgumentValueError: If the checkpoint belongs to another recipe, seed or set of images.
        """
        tensors, found = checkpoint.read(path)
        notes = Notes.from_json(found, path)
        if notes.key != self._key():
            raise ArgumentValueError(
                f"Expected {path} to be a checkpoint of this recipe, seed and data; it is of {notes.key}"
            )
        self.losses, self.cpu_seconds, self.seconds = list(notes.losses), notes.cpu_seconds, dict(notes.seconds)
        self.model.load_state_dict(strip_prefix("model.", tensors))
        checkpoint.restore_optimizer(self.optimizer, tensors)
        self.generator.set_state(tensors["generator"])
        if self.privacy is not None:
            self.privacy.noises.set_state(tensors["noises"])
            self.privacy.restore(notes.privacy or ())

    def _key(self) -> dict[str, Json]:
        """Collects what a checkpoint must agree in, as JSON gives it back."""
        digest = hashlib.sha256(self.images.cpu().contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        key = {"recipe": asdict(self.recipe), "seed": self.seed, "images": digest.hexdigest(), "world": self.world}
        return checkpoint.as_json(key)


def train(
    images: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    labels: Tensor | None = None,
    device: str | torch.device = "cpu",
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    metrics: Callable[[Training], None] | None = None,
) -> Training:
    """Trains an encoder, going on from the checkpoint if there is one.

    Args:
        images: Training images, `[N, 3, H, W]`: float32 in [0, 1], or uint8.
        recipe: How to train.
        seed: Seed of the weights, the order of the images and the views.
        labels: Class of every image, int64, `[N]`, for supervised training.
        device: Where to train.
        checkpoints: The file to go on from and to write to; `None` keeps nothing.
        on_epoch: Called after every epoch with the number of epochs done and their last mean loss.
        metrics: Called before the first epoch and after every epoch with the training, to measure the encoder.

    Returns:
        The finished training: its `encoder()`, `losses`, `cpu_seconds` and `timing()`.

    Raises:
        ArgumentValueError: If there are fewer images than a batch holds, or the checkpoint belongs to another
            training.
    """
    training = Training(images, recipe, seed, labels=labels, device=device)
    if checkpoints is not None and checkpoints.path.exists():
        training.load(checkpoints.path)
    if metrics is not None and training.epoch == 0:
        training.measured(metrics)
    while training.epoch < recipe.epochs:
        loss = training.run_epoch()
        if metrics is not None:
            training.measured(metrics)
        if checkpoints is not None and training.rank == 0 and checkpoints.due(training.epoch, recipe.epochs):
            training.save(checkpoints.path)
        if on_epoch is not None:
            on_epoch(training.epoch, loss)
    return training
