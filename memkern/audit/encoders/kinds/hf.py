"""`hf:CONFIG_DIR`: models of transformers from a saved configuration; nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern._util.text import did_you_mean, first_of
from memkern.audit.encoders.kind import EncoderKind
from memkern.errors import ArgumentTypeError, EncoderError

IMAGES = "pixel_values"
"""What transformers calls a batch of images."""

TOWERS = ("vision_model", "image_model", "vision_tower", "visual")
"""Children of models of images and text that take the images."""


def _build(name: str, arguments: Mapping[str, object]) -> nn.Module:
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"Expected hf:CONFIG_DIR to be a folder with config.json, got {name!r}; nothing is downloaded"
        )
    transformers = require("transformers", "transformers", extra="")
    # add_pooling_layer is the model's, not the configuration's: checkpoints of DINO and MAE have no pooler.
    pooling = {key: arguments[key] for key in ("add_pooling_layer",) if key in arguments}
    rest = {key: value for key, value in arguments.items() if key not in pooling}
    config, unused = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, return_unused_kwargs=True, **rest
    )
    if unknown := [each for each in rest if each in unused]:
        near = did_you_mean(unknown[0], config.to_dict())
        raise ArgumentTypeError(f"Expected fields of {type(config).__name__} after the '?', got {unknown[0]!r}{near}")
    if rest.get("mask_ratio"):
        raise EncoderError(
            f"Expected `mask_ratio` to be 0, got {rest['mask_ratio']}: which patches are masked is drawn anew in every "
            "pass, so views would differ by chance"
        )
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0
    encoder: nn.Module = transformers.AutoModel.from_config(config, **pooling)
    if getattr(encoder, "main_input_name", IMAGES) != IMAGES:
        tower = next(
            (getattr(encoder, each) for each in TOWERS if isinstance(getattr(encoder, each, None), nn.Module)), None
        )
        encoder = encoder if tower is None else tower
    _require_images(encoder)
    if hasattr(getattr(encoder, "embeddings", None), "random_masking"):
        _in_order(encoder)
    return encoder


def _require_images(encoder: nn.Module) -> None:
    """Requires a model that runs on a batch of images alone."""
    takes = getattr(encoder, "main_input_name", IMAGES)
    parameters = list(inspect.signature(encoder.forward).parameters.values())
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [each.name for each in parameters if each.default is inspect.Parameter.empty and each.kind in named]
    also = [each for each in needed if each != takes]
    if takes != IMAGES or also:
        raise EncoderError(
            f"Expected hf: to name a model of images, got {type(encoder).__name__}, which takes "
            f"{first_of([takes, *also])}: write a py: function that returns a module which makes them of the images"
        )


def _in_order(encoder: nn.Module) -> None:
    """Has a masked autoencoder read the patches in the image's order: by default it shuffles them at random."""
    patches = next(each for each in encoder.modules() if isinstance(each, nn.Conv2d))

    def in_order(
        module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        images = next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        (height, width), (down, right) = images.shape[-2:], patches.kernel_size
        rising = torch.arange((height // down) * (width // right), device=images.device, dtype=torch.float32)
        return args, {"noise": rising.expand(len(images), -1), **kwargs}  # patches are sorted by it

    encoder.register_forward_pre_hook(in_order, with_kwargs=True)


KIND = EncoderKind(
    name="hf",
    summary="transformers' model of a saved `config.json`; of a model of images and text, the part for images",
    example="hf:CONFIG_DIR",
    package="transformers",
    build=_build,
    files=lambda name: (Path(name) / "config.json",),
)
