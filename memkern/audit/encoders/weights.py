"""Weights from files: found in checkpoints of every habit, never by running code, and never half loaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern._util.text import first_of
from memkern.audit.encoders.spec import parse
from memkern.errors import MissingFileError, WeightsError

NESTS = ("state_dict", "model_state_dict", "model", "encoder", "module", "net", "teacher", "student")
"""Keys under which training scripts put the state dict, the first that is there is taken."""

Pretrained = Callable[..., tuple[nn.Module, Mapping[str, Iterable[object]]]]
"""`from_pretrained` of a model of transformers: from a folder to the model and the report of what did not fit."""

SAVED = ("model.safetensors", "pytorch_model.bin")
"""Files that `save_pretrained` of transformers writes."""


@dataclass(frozen=True)
class Loaded:
    """Weights that were loaded: from which file, and which of its tensors were left.

    Attributes:
        file: The file.
        prefix: What stood before the encoder's names in the file, "" if nothing.
        left: Names in the file that are not the encoder's: heads, optimizers' copies, other networks.
    """

    file: Path
    prefix: str
    left: tuple[str, ...]


def load_weights(encoder: nn.Module, text: str) -> Loaded:
    """Loads a file into an encoder, every parameter and buffer of it or none.

    Args:
        encoder: The encoder; changed in place.
        text: A `.safetensors` file, a state dict saved by torch, or a folder with one of them, with
            `?key=NAME` for the state dict inside a checkpoint, `?prefix=NAME.` for the part of its names,
            `?strict=False` to allow names of the encoder's own parts that it lacks.

    Returns:
        What was loaded.

    Raises:
        WeightsError: If the file holds no state dict, lacks names of the encoder, or has other names or shapes.
        MissingFileError: If there is no file.
    """
    spec = parse(text)
    unknown = set(spec.arguments) - {"key", "prefix", "strict"}
    if unknown:
        raise WeightsError(f"Expected key, prefix or strict after the '?' of {text!r}, got {first_of(sorted(unknown))}")
    file = _file(spec.path)
    load = getattr(type(encoder), "from_pretrained", None)
    if load is not None and (file.parent / "config.json").is_file() and file.name in SAVED:
        _pretrained(encoder, load, file)
        return Loaded(file, "", ())
    key, given_prefix = (None if each is None else str(each) for each in map(spec.arguments.get, ("key", "prefix")))
    state = _nested(read_state(file), key, file)
    wanted = encoder.state_dict()
    prefix, found = _matched(wanted, state, given_prefix, file)
    _all_there(wanted, found, state, file)
    used = {prefix[1] + key.removeprefix(prefix[0]) for key in found}
    rest = tuple(name for name in state if name not in used)
    if spec.arguments.get("strict", True):
        _nothing_inside_is_left(encoder, rest, prefix, file)
    encoder.load_state_dict({**wanted, **found})
    return Loaded(file, prefix[1], rest)


def _pretrained(encoder: nn.Module, load: Pretrained, file: Path) -> None:
    """Loads what transformers saved, by transformers: its files name tensors otherwise than its modules do."""
    try:
        loaded, report = load(
            file.parent, config=encoder.config, local_files_only=True, weights_only=True, output_loading_info=True
        )
    except OSError:
        raise
    except Exception as error:  # transformers and the readers below it raise their own kinds
        raise WeightsError(f"Expected {file} to be what transformers saved, got: {_short(error)}") from error
    missing = sorted(map(str, report["missing_keys"])) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise WeightsError(
            f"Expected {file} to hold all tensors of the encoder; missing or of other shapes: {first_of(missing)}"
        )
    encoder.load_state_dict(loaded.state_dict())


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in SAVED:
            if (path / name).is_file():
                return path / name
        raise MissingFileError(f"Expected model.safetensors or pytorch_model.bin in the folder {path}")
    if not path.is_file():
        raise MissingFileError(f"Expected a file of weights, got {str(path)!r}; there is no such file")
    return path


def read_state(file: Path) -> Mapping[str, object]:
    """Reads a file of tensors without running code from it.

    Args:
        file: A `.safetensors` file, or one written by `torch.save`.

    Returns:
        Name -> tensor or container.

    Raises:
        WeightsError: If the file is damaged, or holds anything but tensors and plain containers.
    """
    if file.suffix == ".safetensors":
        try:
            state: Mapping[str, object] = require("safetensors.torch", "safetensors").load_file(file)
        except ImportError:
            raise
        except Exception as error:  # safetensors raises its own kinds
            raise WeightsError(f"Expected {file} to be a safetensors file, got: {error}") from error
        return state
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"Expected {file} to hold tensors only; reading it would run code from it. Save it anew from the training "
            "code with torch.save(model.state_dict(), FILE)"
        ) from error
    except OSError:
        raise
    except Exception as error:  # a file that is none can break the reader anywhere
        raise WeightsError(f"Expected {file} to be a file written by torch.save, got: {_short(error)}") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"Expected {file} to hold a state dict, got {type(loaded).__name__}")
    return loaded


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _nested(state: Mapping[str, object], key: str | None, file: Path) -> dict[str, Tensor]:
    """The tensors of the state dict inside a checkpoint."""
    if key is not None:
        chosen = state.get(key)
        if not isinstance(chosen, Mapping):
            inner = [name for name, value in state.items() if isinstance(value, Mapping)]
            raise WeightsError(
                f"Expected {file} to hold a state dict under {key!r}; it does under {inner or 'no name'}"
            )
        return {name: value for name, value in chosen.items() if isinstance(value, Tensor)}
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if tensors:
        return tensors
    for name in NESTS:
        nested = state.get(name)
        if isinstance(nested, Mapping):
            return _nested(nested, None, file)
    raise WeightsError(
        f"Expected {file} to hold tensors by name, got the entries {first_of(sorted(map(str, state)), 8)}"
    )


def _matched(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str | None, file: Path
) -> tuple[tuple[str, str], dict[str, Tensor]]:
    """The pair of prefixes (of the encoder's names, of the file's) under which most names match, and what matches."""

    def match(pair: tuple[str, str]) -> dict[str, Tensor]:
        mine, theirs = pair
        return {
            name: state[theirs + name.removeprefix(mine)]
            for name in wanted
            if name.startswith(mine) and theirs + name.removeprefix(mine) in state
        }

    if prefix is not None:
        return ("", prefix), match(("", prefix))
    # The file's names may have something before the encoder's ("module.backbone."), or lack what the encoder has.
    pairs = {("", "")}
    for name in wanted:
        pairs |= {("", key[: -len(name)]) for key in state if key.endswith("." + name)}
        pairs |= {(name[: -len(key)], "") for key in state if name.endswith("." + key)}
        if len(pairs) > 1:
            break
    found = {pair: match(pair) for pair in sorted(pairs, key=lambda pair: (len(pair[0] + pair[1]), pair))}
    most = max(len(part) for part in found.values())
    best = [pair for pair, part in found.items() if len(part) == most]
    if most and len(best) > 1:
        names = ", ".join(repr(theirs) for _, theirs in best)
        raise WeightsError(f"Expected one network in {file}, got several, under {names}; choose with {file}?prefix=…")
    return best[0], found[best[0]]


def _all_there(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], state: Mapping[str, Tensor], file: Path
) -> None:
    # Batch norm's counter is of no use in eval mode, and old checkpoints lack it.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"Expected {file} to hold all {len(wanted)} tensors of the encoder, got {len(found)}; missing: "
            f"{first_of(missing)}; the file has: {first_of(state)}"
        )
    other = [name for name in found if wanted[name].shape != found[name].shape]
    if other:
        shapes = (f"{name} {list(wanted[name].shape)}, got {list(found[name].shape)}" for name in other[:3])
        raise WeightsError(
            f"Expected the shapes of the encoder in {file}: {'; '.join(shapes)} ({len(other)} differ); "
            "give the constructor's arguments after a '?'"
        )


def _nothing_inside_is_left(encoder: nn.Module, rest: tuple[str, ...], prefix: tuple[str, str], file: Path) -> None:
    """A name that is left but belongs to a part the encoder has means that the file is of a larger network."""
    parts = {name for name, _ in encoder.named_children()} if not prefix[0] else set()
    inside = [
        name for name in rest if name.startswith(prefix[1]) and name.removeprefix(prefix[1]).partition(".")[0] in parts
    ]
    if inside:
        raise WeightsError(
            f"Expected {file} to hold this encoder, got a larger one with {first_of(inside)}; allow it with "
            f"{file}?strict=False"
        )
