"""Context of experiments: data, splits and trained encoders, each made once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.audit.measure.in_memory import Reading
from memkern.errors import TrainingError
from memkern.lab import probe
from memkern.lab.data import datasets
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Split
from memkern.lab.encoder_cache import EncoderCache
from memkern.lab.encoder_pairs import MANIFEST, load_pair, training_seed
from memkern.lab.encoders.build import build
from memkern.lab.method import Method
from memkern.lab.pair_scores import PairScores, read_images, score_pair
from memkern.lab.presets import Preset
from memkern.lab.training import checkpoint
from memkern.lab.training.recipe import Recipe
from memkern.lab.training.trainer import Checkpoints
from memkern.transforms import ViewSpec


class ExperimentContext:
    """Context that the experiments of one run share: data sets, splits, trained encoders and the scores of pairs.

    Trained encoders are kept in `cache` (`memkern.lab.encoder_cache.EncoderCache`), which processes may share.

    Args:
        preset: How large.
        cache: Folder of the trained encoders.
        root: Folder of data sets that are not packaged.
        reuse: Folder with pairs made by `python -m memkern.lab.encoder_pairs` (`seed-N`); one that was trained just so
            is taken.
        device: Where to train.
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".
        log: Told what is being trained.

    Attributes:
        encoders: The cache of the encoders.
        used: Where each encoder that was asked for came from: "trained", or the pair it was taken from. Empty it
            before a run to learn what that run uses.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        cache: Path,
        root: Path | None = None,
        reuse: Path | None = None,
        device: str = "cpu",
        activation: str = "raw",
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.preset, self.cache, self.root, self.reuse = preset, cache, root, reuse
        self.device, self.activation = device, activation
        self.encoders = EncoderCache(cache / "encoders", device=device, log=log)
        self.used: dict[str, str] = {}
        self._data: dict[str, ImageSet] = {}
        self._encoders: dict[str, nn.Module] = {}
        self._origins: dict[str, str] = {}
        self._scores: dict[str, PairScores] = {}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the repetitions."""
        return self.preset.seeds

    def data(self, name: str | None = None) -> ImageSet:
        """Returns a data set, by default that of the preset."""
        name = name or self.preset.data
        if name not in self._data:
            root = None if self.root is None or name in datasets.PACKAGED else self.root
            self._data[name] = datasets.load(name, root=root)
        return self._data[name]

    def split(self, seed: int, name: str | None = None) -> Split:
        """Returns the four groups of a data set; at `paper` the same for every seed."""
        return self.preset.split(self.data(name), seed)

    def recipe(self, method: str = "simclr", encoder: str | None = None, **changes: object) -> Recipe:
        """Returns the recipe of a method at this size (`Preset.recipe`)."""
        return self.preset.recipe(method, encoder, **changes)

    def encoder(
        self, seed: int, role: str = "f", recipe: Recipe | None = None, *, data: str | None = None, repeat: int = 0
    ) -> nn.Module:
        """Returns f or g of a seed's split.

        Args:
            seed: Seed of the split and of the training.
            role: "f" or "g".
            recipe: How to train; by default SimCLR on ResNet9.
            data: On which data set.
            repeat: Another number trains with the same images and other random numbers.

        Returns:
            The encoder, eval mode. It is shared: copy it before changing it.
        """
        split = self.split(seed, data)
        ids = split.f if role == "f" else split.g
        return self.trained(ids, training_seed(seed, role) + 1000 * repeat, recipe, data=data, pair=(seed, role))

    def trained(
        self,
        ids: Tensor,
        seed: int,
        recipe: Recipe | None = None,
        *,
        data: str | None = None,
        pair: tuple[int, str] | None = None,
    ) -> nn.Module:
        """Returns an encoder trained on any images.

        Args:
            ids: Which images, int64, in the order that numbers their views.
            seed: Seed of the training.
            recipe: How to train; by default SimCLR on ResNet9.
            data: On which data set.
            pair: Seed and role of the pair that it belongs to, to look it up in `reuse`.

        Returns:
            The encoder, eval mode; shared, so copy it before changing it.
        """
        recipe = recipe or self.recipe()
        source = self.data(data)
        key = self.encoders.key(source, ids, seed, recipe)
        if key not in self._encoders:
            there = self.encoders.path(key).exists()
            found = None if there else self._reused(source, ids, seed, recipe, pair)
            if found is not None:
                self._encoders[key], self._origins[key] = found[0].to(self.device), found[1]
            else:
                path = self.encoders.weights(source, ids, seed, recipe)
                model = build(recipe.encoder, image_size=source.images.shape[-1])
                model.load_state_dict(require("safetensors.torch", "safetensors", extra="lab").load_file(path))
                self._encoders[key], self._origins[key] = model.eval().to(self.device), "trained"
        self.used[key] = self._origins[key]
        return self._encoders[key]

    def _reused(
        self, source: ImageSet, ids: Tensor, seed: int, recipe: Recipe, pair: tuple[int, str] | None
    ) -> tuple[nn.Module, str] | None:
        if pair is None or seed != training_seed(*pair) or self.reuse is None:
            return None
        folder = self.reuse / f"seed-{pair[0]}"
        if not (folder / MANIFEST).exists():
            return None
        try:
            stored = load_pair(folder)
        except TrainingError:
            return None
        same_ids = torch.equal(stored.split.f if pair[1] == "f" else stored.split.g, ids)
        if stored.recipe == recipe and stored.data_sha256 == source.sha256 and same_ids and stored.seed == pair[0]:
            return stored.f if pair[1] == "f" else stored.g, f"the pair of seed {pair[0]}"
        return None

    def method(self, seed: int, recipe: Recipe) -> Method:
        """Returns f of a seed's split inside the method that trained it, with its heads; eval mode.

        Kept as a checkpoint, apart from the encoders, which have no heads. Copy it before changing it.
        """
        source, ids, own_seed = self.data(), self.split(seed).f, training_seed(seed, "f")
        key = self.encoders.key(source, ids, own_seed, recipe)
        path = self.cache / "methods" / f"{key}.safetensors"
        with checkpoint.alone(path.with_suffix(".lock")):
            training = self.encoders.training(source, ids, own_seed, recipe, checkpoints=Checkpoints(path))
        self.used[key] = "trained"
        return training.model.eval()

    def read(self, encoder: nn.Module, ids: Tensor, views: ViewSpec, *, data: str | None = None) -> Reading:
        """Reads every layer of an encoder on some images, with the preset's number of views (`read_images`).

        Args:
            encoder: The encoder.
            ids: Which images, int64 `[N]`.
            views: What a view does.
            data: Of which data set, by default that of the preset.

        Returns:
            Alignments and unit means, in the order of `ids`.
        """
        n_views = self.preset.n_views
        return read_images(encoder, self.data(data), ids, views, n_views=n_views, activation=self.activation)

    def measure(self, seed: int, recipe: Recipe | None = None) -> PairScores:
        """Measures the pair of a seed on its four groups with the views of its training (`score_pair`), once.

        Args:
            seed: The repetition.
            recipe: How the pair was trained; by default SimCLR on ResNet9.

        Returns:
            The scores.
        """
        recipe = recipe or self.recipe()
        key = json.dumps([asdict(recipe), seed], sort_keys=True)
        f, g = self.encoder(seed, "f", recipe), self.encoder(seed, "g", recipe)
        if key not in self._scores:
            self._scores[key] = score_pair(
                f, g, self.data(), self.split(seed), recipe.views, n_views=self.preset.n_views,
                activation=self.activation,
            )  # fmt: skip
        return self._scores[key]

    def halves(self, seed: int, name: str | None = None) -> tuple[Tensor, Tensor]:
        """Returns the images of a data set that a probe is trained and tested on."""
        name = name or self.preset.data
        split = self.split(seed) if name == self.preset.data else None
        used = torch.empty(0, dtype=torch.int64) if split is None else torch.cat(list(split.groups().values()))
        return probe.halves(self.data(name), used, seed, most=self.preset.probe)

    def features(self, encoder: nn.Module, seed: int, name: str | None = None) -> probe.Features:
        """Extracts the features of a probe, once, with the normalization of the lab's views."""
        return probe.features(encoder, self.data(name), *self.halves(seed, name), self.recipe().views)

    def accuracy(self, encoder: nn.Module, seed: int, name: str | None = None) -> float:
        """Returns the linear probe's accuracy on a data set, in percent."""
        return probe.linear_probe(self.features(encoder, seed, name))
