"""Cache of trained encoders: each is trained once, and kept under a digest of all that decides its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from memkern._util.files import replace_atomically, write_json
from memkern._util.optional_imports import require
from memkern.lab.data.packaged import ImageSet
from memkern.lab.encoder_pairs import half, versions
from memkern.lab.training import checkpoint
from memkern.lab.training.recipe import Recipe
from memkern.lab.training.trainer import Checkpoints, Training, train


class EncoderCache:
    """Trained encoders in a folder, under a digest of recipe, seed, device, data set and training images.

    A stopped training goes on from its checkpoint, with the same bits. Processes may share the folder: an encoder that
    one of them trains, the others wait for.

    Args:
        folder: The folder; made if it is missing.
        device: Where to train.
        every: Epochs between two checkpoints of a training under way.
        log: Told what is being trained, and how far it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        every: int = 50,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.device, self.every, self.log = folder, device, every, log

    def key(self, source: ImageSet, ids: Tensor, seed: int, recipe: Recipe) -> str:
        """Digests all that decides the weights of an encoder.

        Args:
            source: The data set.
            ids: Positions of the training images in it, int64 `[N]`, in the order that numbers their views.
            seed: Seed of the training.
            recipe: How to train.

        Returns:
            The digest, 20 hexadecimal digits.
        """
        text = json.dumps([asdict(recipe), seed, source.sha256, self.device], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        digest.update(ids.numpy().tobytes())
        return digest.hexdigest()[:20]

    def path(self, key: str) -> Path:
        """Returns the file (safetensors) of an encoder, there or not; its notes are beside it, `.json`."""
        return self.folder / f"{key}.safetensors"

    def weights(self, source: ImageSet, ids: Tensor, seed: int, recipe: Recipe) -> Path:
        """Trains an encoder unless it is there.

        Args:
            source: The data set.
            ids: Positions of the training images in it, int64 `[N]`, in the order that numbers their views.
            seed: Seed of the training.
            recipe: How to train.

        Returns:
            The file of its weights (safetensors, float16).

        Raises:
            ArgumentValueError: If the recipe does not fit the images, or names something that does not exist.
        """
        path = self.path(self.key(source, ids, seed, recipe))
        with checkpoint.alone(path.with_suffix(".lock")):
            if not path.exists():
                self._train(source, ids, seed, recipe, path)
        return path

    def _train(self, source: ImageSet, ids: Tensor, seed: int, recipe: Recipe, path: Path) -> None:
        what = f"{recipe.method} {recipe.encoder} on {len(ids)} images of {source.name}, seed {seed}"
        self.log(f"train {what}: {recipe.epochs} epochs")
        tenth = max(1, recipe.epochs // 10)

        def report(epoch: int, loss: float) -> None:
            if epoch % tenth == 0 and epoch < recipe.epochs:
                self.log(f"  epoch {epoch} of {recipe.epochs}: loss {loss:.3f}")

        unfinished = path.with_suffix(".checkpoint.safetensors")
        checkpoints = Checkpoints(unfinished, self.every)
        training = self.training(source, ids, seed, recipe, checkpoints=checkpoints, on_epoch=report)
        note = {
            "recipe": asdict(recipe),
            "seed": seed,
            "data": source.name,
            "images": len(ids),
            "last_loss": training.losses[-1],
            "cpu_seconds": round(training.cpu_seconds, 1),
            "timing": training.timing(),
            "epsilon": None if training.privacy is None else training.privacy.epsilon(),
            "threads": torch.get_num_threads(),
            "made_with": versions(),
        }
        write_json(path.with_suffix(".json"), note)  # first, so that weights are never without their notes
        state = {name: half(value.cpu()) for name, value in training.encoder().state_dict().items()}
        with replace_atomically(path) as part:
            require("safetensors.torch", "safetensors", extra="lab").save_file(state, part)
        unfinished.unlink(missing_ok=True)
        self.log(f"trained {what}: loss {training.losses[-1]:.3f}, {training.timing()}")

    def training(
        self,
        source: ImageSet,
        ids: Tensor,
        seed: int,
        recipe: Recipe,
        *,
        checkpoints: Checkpoints | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
        metrics: Callable[[Training], None] | None = None,
    ) -> Training:
        """Trains without the cache, to watch a training from inside.

        Args:
            source: The data set.
            ids: Positions of the training images in it, int64 `[N]`, in the order that numbers their views.
            seed: Seed of the training.
            recipe: How to train.
            checkpoints: The file to go on from and to write to; `None` keeps nothing.
            on_epoch: As of `memkern.lab.training.trainer.train`.
            metrics: As of `memkern.lab.training.trainer.train`.

        Returns:
            The finished training.
        """
        return train(
            source.floats(ids) if recipe.pixels == "float32" else source.images[ids],
            recipe,
            seed,
            labels=source.labels[ids],
            device=self.device,
            checkpoints=checkpoints,
            on_epoch=on_epoch,
            metrics=metrics,
        )
