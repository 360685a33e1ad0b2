"""Recipes of training: one record, and the published settings of arXiv:2409.19069, Table 9."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.lab.method import MethodOptions
from memkern.transforms import PRESETS, ViewSpec

VIEWS = ViewSpec(flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2)
"""The random views of the lab: SimCLR's for small images, with half its color strength."""


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training: how an encoder is trained.

    Attributes:
        epochs: Passes over the training images.
        batch: Images per step, of all processes together; what is left of an epoch after the last full batch is
            dropped.
        lr: Largest learning rate.
        warmup: Share of the steps over which the learning rate rises linearly; afterwards it falls as a half
            cosine.
        weight_decay: Weight decay: decoupled in AdamW, an L2 term in SGD and LARS.
        temperature: Temperature of NT-Xent, and of DINO's student.
        hidden: Width of the hidden layers of the heads; of MAE's decoder.
        out: Width of the last layer of the heads.
        views: The random views that are pulled together; the same are used to measure.
        method: One of `memkern.lab.training.registry.method_names()`.
        encoder: One of `memkern.lab.encoders.build.NAMES`.
        optimizer: `adamw`, `sgd` or `lars`.
        momentum: Momentum of SGD and LARS.
        betas: Decay rates of AdamW's two averages.
        precision: `bf16`: the networks run in bfloat16 where autocast allows it; `fp32`: nowhere.
        pixels: What the views are made of: `float32`, or `uint8` as torchvision does, in a quarter of the memory.
        alignment: Weight of the mean distance between the representations of an image's views in the loss: above 0
            views are pulled together, below 0 they are pushed apart.
        epsilon: Privacy budget of DP-SGD (arXiv:1607.00133); `None`: not private.
        delta: Failure probability that goes with it.
        clip: Largest norm of the gradient of one image under DP-SGD.
        compile: Whether torch.compile builds the networks; the numbers differ in rounding.
        options: Options of the method (`Method.defaults`).
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
    method: str = "simclr"
    encoder: str = "resnet9"
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    precision: Literal["bf16", "fp32"] = "bf16"
    pixels: Literal["float32", "uint8"] = "float32"
    alignment: float = 0.0
    epsilon: float | None = None
    delta: float = 1e-5
    clip: float = 1.0
    compile: bool = False
    options: MethodOptions = field(default_factory=dict)

    def learning_rate(self, step: int, steps: int) -> float:
        """Returns the learning rate of step `step` (from 0) of `steps`."""
        rise = max(1, round(steps * self.warmup))
        return self.lr * min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * step / steps)))


def for_gray_images(views: ViewSpec) -> ViewSpec:
    """Returns views whose every step does something to images without color.

    Args:
        views: The views.

    Returns:
        The same without saturation, hue and dropping the color; where there is no blur, with one in their place.
    """
    views = replace(views, saturation=None, hue=None, gray=0.0)
    return views if views.blur else replace(views, blur=0.5, blur_size=3, sigma=(0.1, 1.0))


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """Builds a recipe from what `dataclasses.asdict` gave, JSON in between or not.

    Args:
        values: Field -> value.

    Returns:
        The recipe.

    Raises:
        TypeError: If there is an unknown field.
    """
    return Recipe(**{**_tuples(values), "views": ViewSpec(**_tuples(values["views"]))})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values with tuples where JSON has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Builds the optimizer of a recipe over the parameters of a model that are trained.

    LARS neither decays nor rescales vectors and scalars (biases, norms), as in SimCLR.

    Args:
        model: The method with its encoder and heads.
        recipe: Its optimizer, learning rate, weight decay and momentum.

    Returns:
        The optimizer.

    Raises:
        ArgumentValueError: If there is no such optimizer.
        ImportError: If LARS is asked for and lightly is missing.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.optimizer == "adamw":
        decay = recipe.weight_decay
        return torch.optim.AdamW(trained, lr=recipe.lr, betas=recipe.betas, weight_decay=decay, fused=True)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "lars":
        lars = require("lightly.utils.lars", "lightly", extra="ssl").LARS
        groups = [
            {"params": _of_rank(trained, matrices=True), "weight_decay": recipe.weight_decay},
            {"params": _of_rank(trained, matrices=False), "weight_decay": 0.0},
        ]
        built: torch.optim.Optimizer = lars(groups, lr=recipe.lr, momentum=recipe.momentum)
        return built
    raise ArgumentValueError(f"Expected `optimizer` to be adamw, sgd or lars, got {recipe.optimizer!r}")


def _of_rank(parameters: Iterable[nn.Parameter], *, matrices: bool) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if (parameter.ndim > 1) == matrices]


_PUBLISHED: Mapping[str, Mapping[str, object]] = {
    "simclr": {"optimizer": "lars", "lr": 4.8, "weight_decay": 1e-6, "temperature": 0.5, "hidden": 512, "out": 128},
    "mae": {
        "batch": 2048, "lr": 1.2e-3, "weight_decay": 0.05, "betas": (0.9, 0.95), "views": PRESETS["script-scores"],
        "hidden": 192,
    },
    "dino": {"batch": 1024, "lr": 2e-3, "weight_decay": 0.04, "temperature": 0.1, "hidden": 2048, "out": 65536},
    "simsiam": {
        "epochs": 200, "warmup": 24 / 200, "batch": 128, "optimizer": "sgd", "lr": 2.5e-2, "weight_decay": 1e-4,
        "hidden": 2048, "out": 2048,
    },
    "vicreg": {
        "epochs": 1000, "warmup": 10 / 1000, "batch": 2048, "optimizer": "lars", "lr": 1.6, "weight_decay": 1e-6,
        "hidden": 8192, "out": 8192,
    },
    "byol": {"optimizer": "lars", "lr": 3.2, "weight_decay": 1.5e-6, "hidden": 4096, "out": 256},
    "supervised": {
        "epochs": 10, "warmup": 0.3, "batch": 32, "lr": 5e-3, "weight_decay": 1e-4, "views": PRESETS["weak"],
    },
}  # fmt: skip
"""Method -> fields of its recipe that differ from those that all have in common."""


def published(method: str, encoder: str, *, imagenet: bool = False) -> Recipe:
    """Returns the settings of arXiv:2409.19069, Table 9, and appendix B; what they leave open is the released scripts'.

    Args:
        method: `simclr`, `mae`, `dino`, `simsiam` or `supervised`; of `vicreg` the script of arXiv:2401.12233, and of
            `byol`, which neither paper trains, its own paper's.
        encoder: The encoder.
        imagenet: The column of ImageNet instead of that of the other data sets.

    Returns:
        The recipe.

    Raises:
        ArgumentValueError: If nothing is published for the method.
    """
    if method not in _PUBLISHED:
        raise ArgumentValueError(
            f"Expected `method` to have published settings: {', '.join(_PUBLISHED)}; got {method!r}"
        )
    epochs, warmup = (300, 30) if imagenet else (600, 60)
    fields: dict[str, Any] = {
        "epochs": epochs, "batch": 4096, "warmup": warmup / epochs, "views": PRESETS["normal"], "method": method,
        "encoder": encoder, "pixels": "uint8", **_PUBLISHED[method],
    }  # fmt: skip
    if method == "dino" and imagenet:
        fields["options"] = {"n_local": 8, "local_size": 96}
    return Recipe(**fields)
