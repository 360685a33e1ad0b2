"""Encoders by name: `timm:resnet18?num_classes=0`. Nothing is downloaded; weights come from a file."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from memkern._util.optional_imports import require

OWN = {"resnet9": ("memkern.lab.encoders.resnet9", "ResNet9")}
"""Encoders of memkern's lab by name; looked up as a plug-in, for the audit does not depend on the lab."""


@dataclass(frozen=True)
class Spec:
    """A name with arguments, `prefix:name?key=value&key=value`.

    Attributes:
        prefix: What stands before the first colon, "" without one.
        name: What stands after it.
        arguments: Keys and values; numbers, True, False, None and tuples are read as Python does, others are text.
    """

    prefix: str
    name: str
    arguments: dict[str, Any]


def parse(text: str, prefixes: tuple[str, ...] = ()) -> Spec:
    """Reads `prefix:name?key=value&…`.

    Args:
        text: What the user wrote.
        prefixes: Known prefixes; text with another one before its first colon is a name as a whole.

    Raises:
        ValueError: If an argument has no "=".
    """
    name, mark, rest = text.partition("?")
    prefix, colon, after = name.partition(":")
    if not colon or prefix not in prefixes:
        prefix, after = "", name
    arguments: dict[str, Any] = {}
    for each in rest.split("&") if mark else []:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise ValueError(f"Expected `key=value` after the '?' of {text!r}, got {each!r}")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return Spec(prefix, after, arguments)


def build_encoder(text: str) -> nn.Module:
    """Builds an encoder without weights.

    Args:
        text: `timm:NAME`, `torchvision:NAME`, `lightly:NAME` (torchvision's without its last layer, as lightly's
            examples build it), `hf:CONFIG_DIR`, `memkern:NAME`, or `py:FILE.py:FUNCTION`, each with
            `?key=value&…` for the constructor. timm's are built without a classifier unless `num_classes` is given.

    Returns:
        The encoder, in eval mode.

    Raises:
        ValueError: If the name is unknown; the message has what is near.
        TypeError: If the constructor does not take an argument, or returns no module.
        ImportError: If the package is missing.
    """
    spec = parse(text, tuple(BUILDERS))
    if not spec.prefix:
        kinds = ", ".join(f"{prefix}:NAME" for prefix in BUILDERS)
        raise ValueError(f"Expected ENCODER to be one of {kinds}, got {text!r}")
    try:
        encoder = BUILDERS[spec.prefix](spec.name, spec.arguments)
    except TypeError as error:
        raise TypeError(f"Expected arguments that {spec.prefix}:{spec.name} takes, got {text!r}: {error}") from error
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"Expected {text!r} to give a torch.nn.Module, got {type(encoder).__name__}")
    return encoder.eval()


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    timm = require("timm", "timm", extra="")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    encoder: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": 0, **arguments})
    return encoder


def _torchvision(name: str, arguments: dict[str, Any]) -> nn.Module:
    models = require("torchvision.models", "torchvision", extra="")
    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())
    encoder: nn.Module = models.get_model(name, weights=None, **arguments)
    return encoder


def _lightly(name: str, arguments: dict[str, Any]) -> nn.Module:
    return nn.Sequential(*list(_torchvision(name, arguments).children())[:-1])


def _hf(name: str, arguments: dict[str, Any]) -> nn.Module:
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ValueError(f"Expected hf:CONFIG_DIR to be a folder with config.json, got {name!r}; nothing is downloaded")
    transformers = require("transformers", "transformers", extra="")
    # This one is the model's, not the configuration's: checkpoints of DINO and MAE have no pooler.
    pooling = {key: arguments[key] for key in ("add_pooling_layer",) if key in arguments}
    rest = {key: value for key, value in arguments.items() if key not in pooling}
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **rest)
    encoder: nn.Module = transformers.AutoModel.from_config(config, **pooling)
    return encoder


def _own(name: str, arguments: dict[str, Any]) -> nn.Module:
    if name not in OWN:
        raise _unknown("memkern", name, list(OWN))
    module, kind = OWN[name]
    encoder: nn.Module = getattr(importlib.import_module(module), kind)(**arguments)
    return encoder


def _python(name: str, arguments: dict[str, Any]) -> nn.Module:
    """`FILE.py:FUNCTION`: runs the user's own file."""
    path, _, function = name.rpartition(":")
    file = Path(path)
    if not path or not file.is_file():
        raise ValueError(f"Expected py:FILE.py:FUNCTION with a file that exists, got {name!r}")
    module_name = f"memkern_encoder_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look a class up in its module
    spec.loader.exec_module(module)
    build: Callable[..., nn.Module] | None = getattr(module, function, None)
    if not callable(build):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"Expected {file} to define {function!r}; it defines {', '.join(public) or 'nothing'}")
    return build(**arguments)


BUILDERS: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "lightly": _lightly,
    "hf": _hf,
    "memkern": _own,
    "py": _python,
}


def _unknown(prefix: str, name: str, known: list[str]) -> ValueError:
    import difflib

    near = difflib.get_close_matches(name, known, 5, 0.5) or known[:5]
    return ValueError(f"Expected the name of a {prefix} model, got {name!r}; near: {', '.join(near)}")
