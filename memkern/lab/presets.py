"""Presets, the sizes of experiments: `tiny` for tests, `small` for a laptop, `paper` as published."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from memkern.errors import ArgumentValueError
from memkern.lab.data.datasets import published_split, shares_split
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Sizes, Split, make_picture_split, make_split
from memkern.lab.encoder_pairs import RECIPE, SIZES
from memkern.lab.training.recipe import Recipe, published

# The widths of heads that fit encoders of this size; the learning rate is the shipped recipe's.
_SMALL: dict[str, dict[str, Any]] = {
    "simclr": {},
    "simsiam": {"hidden": 256, "out": 256},
    "byol": {"hidden": 256, "out": 128},
    "vicreg": {"hidden": 256, "out": 256},
    "dino": {"hidden": 256, "out": 256, "temperature": 0.1, "options": {"bottleneck": 64}},
    "mae": {"hidden": 48, "encoder": "vit-nano-4", "options": {"depth": 1, "heads": 3}},
    "supervised": {},
}

PICTURES = Sizes(shared=12, candidate=8, extra=12)
"""Of the 40 pictures that three packages of wallpapers have."""


@dataclass(frozen=True)
class Preset:
    """Data, seeds and recipes of a size.

    Attributes:
        name: `tiny`, `small` or `paper`.
        data: The data set that encoders are trained on.
        others: Further data sets, for downstream tasks and as donors of layers.
        sizes: Images per class in each group; `None`: the published split.
        seeds: One repetition each.
        n_views: Views per image when measuring.
        epochs: Epochs of every training; `None`: the published number.
        batch: Images per step; `None`: the published number.
        probe: Most images in each half of a probe.
        vit: The transformer of the ViT experiments.
        resnet: The ResNet of the experiments that use a deeper one.
        pictures: Pictures in each group, where a data set is split by picture.
        share: What "100 points", "top 50" and so on become: a number of points is scaled by this, at least 2.
    """

    name: str
    data: str
    others: tuple[str, ...]
    sizes: Sizes | None
    seeds: tuple[int, ...]
    n_views: int
    epochs: int | None
    batch: int | None
    probe: int
    vit: str
    resnet: str
    share: float
    pictures: Sizes = PICTURES

    def recipe(self, method: str = "simclr", encoder: str | None = None, **changes: Any) -> Recipe:
        """Returns the recipe of a method at this size.

        Args:
            method: The method.
            encoder: The encoder; by default ResNet9, for MAE the preset's transformer.
            **changes: Fields of the recipe to set.

        Returns:
            The recipe.

        Raises:
            ArgumentValueError: If there is no such field, or nothing is published for the method.
        """
        known = [each.name for each in fields(Recipe)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise ArgumentValueError(f"Expected fields of a recipe among {', '.join(known)}, got {', '.join(unknown)}")
        if self.sizes is None:
            default = self.vit if method == "mae" else "resnet9"
            return replace(published(method, encoder or default), **changes)
        base = replace(RECIPE, epochs=self.epochs, batch=self.batch, method=method)  # type: ignore[arg-type]
        widths = dict(_SMALL.get(method, {}))
        if encoder is not None:
            widths["encoder"] = encoder
        return replace(base, **{**widths, **changes})

    def split(self, data: ImageSet, seed: int) -> Split:
        """Draws the four groups of a data set, of `photos` by picture; at `paper` the same for every seed.

        Args:
            data: The data set.
            seed: Seed of the draw.

        Returns:
            The split.

        Raises:
            ArgumentValueError: If the data set is too small, or has no official training images to take shares of.
        """
        if data.name == "photos":
            return make_picture_split(data.labels, self.pictures, seed)
        if self.sizes is not None:
            return make_split(data.labels, self.sizes, seed)
        return published_split(data.name) if data.name.startswith("cifar") else shares_split(data)

    def points(self, published_count: int) -> int:
        """Returns how many points stand for a published number of points."""
        return max(2, round(published_count * self.share))


PRESETS = {
    "tiny": Preset(
        name="tiny",
        data="patches",
        others=("digits",),
        sizes=Sizes(shared=1, candidate=1, extra=1),
        seeds=(0,),
        n_views=2,
        epochs=1,
        batch=10,
        probe=40,
        vit="vit-nano-8",
        resnet="resnet18",
        share=0.08,
    ),
    "small": Preset(
        name="small",
        data="patches",
        others=("digits", "mnist"),
        sizes=SIZES,
        seeds=(0, 1, 2),
        n_views=10,
        epochs=RECIPE.epochs,
        batch=RECIPE.batch,
        probe=800,
        vit="vit-nano-4",
        resnet="resnet18",
        share=0.2,
    ),
    "paper": Preset(
        name="paper",
        data="cifar10",
        others=("stl10", "svhn"),
        sizes=None,
        seeds=(0, 1, 2),
        n_views=10,
        epochs=None,
        batch=None,
        probe=50_000,
        vit="vit-tiny-4",
        resnet="resnet18-cifar",
        share=1.0,
    ),
}
