"""Adapters of PEFT, merged into the weights that they change: W + scale · B A, of LoRA (arXiv 2106.09685)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from memkern._util.files import read_json
from memkern._util.text import first_of
from memkern.audit.encoders.checkpoints.files import ADAPTER, read_files, short, weights_files
from memkern.errors import MissingFileError, WeightsError

FILES = ("adapter_model.safetensors", "adapter_model.bin")
_LORA = re.compile(r"^(?P<module>.*?)\.?lora_(?P<part>[AB])(\.(?P<adapter>\w+))?\.weight$")


def adapter_files(folder: Path) -> tuple[Path, ...]:
    """Finds the files of an adapter that PEFT saved.

    Args:
        folder: The folder with adapter_config.json.

    Returns:
        The configuration, and the file of tensors.

    Raises:
        MissingFileError: If one of them is missing.
    """
    tensors = [folder / name for name in FILES if (folder / name).is_file()]
    if not (folder / ADAPTER).is_file() or not tensors:
        raise MissingFileError(f"Expected adapter_config.json and adapter_model.safetensors in the folder {folder}")
    return folder / ADAPTER, tensors[0]


def with_adapter(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Merges an adapter into the tensors of an encoder.

    Args:
        tensors: The encoder's tensors by name, `[out, in, …]` those that an adapter changes.
        folder: The adapter's folder.

    Returns:
        The tensors with the adapter's changes.

    Raises:
        WeightsError: If the adapter is no LoRA, or changes what the encoder does not have.
        MissingFileError: If a file is missing.
    """
    config_file, file = adapter_files(folder)
    try:
        config = dict(read_json(config_file))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"Expected {config_file} to be a PEFT configuration, got: {short(error)}") from error
    kind = str(config.get("peft_type", "")).upper()
    unread = [name for name in ("use_dora", "fan_in_fan_out", "lora_bias") if config.get(name)]
    if kind != "LORA" or unread:
        raise WeightsError(
            f"Expected {folder} to be an adapter of LoRA, got {kind or 'none'} {first_of(unread)}: merge it with "
            "merge_and_unload of PEFT, save the state dict, and name that file"
        )
    content = read_files(weights_files(file))
    return merged(
        tensors, {str(key): value for key, value in content.items() if isinstance(value, Tensor)}, config, str(folder)
    )


def merged(
    tensors: Mapping[str, Tensor], changes: Mapping[str, Tensor], config: Mapping[str, object], source: str
) -> dict[str, Tensor]:
    """Adds what LoRA learned to the tensors that it changes.

    A pair A `[r, in]`, B `[out, r]` adds `alpha / r · B A` to a linear layer `[out, in]`, with `use_rslora`
    `alpha / sqrt(r) · B A`; A `[r, in, h, w]`, B `[out, r, 1, 1]` do the same to a convolution. All other tensors of
    the adapter (`modules_to_save`, biases) take the place of the encoder's.

    Args:
        tensors: The encoder's tensors by name.
        changes: The adapter's tensors by name.
        config: The adapter's configuration: `lora_alpha`, `alpha_pattern`, `use_rslora`.
        source: What the adapter is called in messages.

    Returns:
        The tensors with the changes.

    Raises:
        WeightsError: If the adapter changes what the encoder does not have, or its parts do not fit.
    """
    found = dict(tensors)
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, value in changes.items():
        match = _LORA.match(name)
        if match is not None:
            pairs.setdefault(_own_name(match["module"], tensors, "weight", source), {})[match["part"]] = value
        elif ".lora_" not in name:
            stem, _, last = re.sub(
                r"\.(modules_to_save|base_layer|original_module)(\.\w+)?(?=\.)", "", name
            ).rpartition(".")
            found[_own_name(stem, tensors, last, source)] = value
        else:
            raise WeightsError(f"Expected {source} to hold pairs lora_A and lora_B, got {name}")
    patterns = config.get("alpha_pattern")
    for name, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise WeightsError(f"Expected {source} to hold lora_A and lora_B of {name}, got one of them")
        alpha = _alpha(name.removesuffix(".weight"), config, patterns if isinstance(patterns, Mapping) else {}, source)
        a, b = (pair[part].to(torch.float32) for part in "AB")
        scale = alpha / (math.sqrt(len(a)) if config.get("use_rslora") else len(a))
        change = (b.flatten(1) @ a.flatten(1)) * scale
        if change.numel() != found[name].numel() or len(change) != len(found[name]):
            shapes = f"A {list(a.shape)} and B {list(b.shape)} for {list(found[name].shape)}"
            raise WeightsError(f"Expected {source} to fit {name}, got {shapes}")
        found[name] = found[name].to(torch.float32) + change.view(found[name].shape)
    return found


def _own_name(module: str, tensors: Mapping[str, Tensor], last: str, source: str) -> str:
    """The encoder's name for what an adapter changes: without what PEFT and wrappers around the encoder put before."""
    parts = module.split(".")
    for start in range(len(parts)):
        name = ".".join([*parts[start:], last])
        if name in tensors:
            return name
    raise WeightsError(f"Expected {source} to change parts of the encoder, got {module}.{last}, which it does not have")


def _alpha(module: str, config: Mapping[str, object], patterns: Mapping[object, object], source: str) -> float:
    own = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)]
    alpha = own[0] if own else config.get("lora_alpha")
    if not isinstance(alpha, int | float):
        raise WeightsError(f"Expected `lora_alpha` of {source} to be a number, got {alpha!r}")
    return alpha
