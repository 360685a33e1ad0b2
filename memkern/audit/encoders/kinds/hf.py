"""`hf:CONFIG_DIR`: models of transformers from a saved configuration; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from memkern._util.optional_imports import require
from memkern.audit.encoders.kind import EncoderKind
from memkern.errors import EncoderError


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
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **rest)
    encoder: nn.Module = transformers.AutoModel.from_config(config, **pooling)
    return encoder


KIND = EncoderKind(
    name="hf",
    summary="transformers' model of a saved `config.json`",
    example="hf:CONFIG_DIR",
    package="transformers",
    build=_build,
)
