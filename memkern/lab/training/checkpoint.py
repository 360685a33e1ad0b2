"""Checkpoints: tensors and a JSON note in one safetensors file; nothing in it is ever executed."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from memkern._util.files import replace_atomically, strip_prefix
from memkern._util.optional_imports import require
from memkern._util.records import Json
from memkern.errors import WeightsError


def write(path: Path, tensors: dict[str, Tensor], notes: Mapping[str, Json]) -> None:
    """Writes tensors and notes, atomically.

    Args:
        path: The file.
        tensors: Name -> tensor, `[…]` of any shape.
        notes: What the file says beside the tensors, as JSON.

    Raises:
        ImportError: If safetensors is missing.
    """
    torch_files = require("safetensors.torch", "safetensors", extra="lab")
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replace_atomically(path) as part:
        torch_files.save_file(own, part, metadata={"notes": json.dumps(notes)})


def read(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Reads what `write` wrote.

    Args:
        path: The file.

    Returns:
        The tensors by name, and the notes.

    Raises:
        WeightsError: If the file is no checkpoint.
    """
    safetensors = require("safetensors", "safetensors", extra="lab")
    try:
        with safetensors.safe_open(path, "pt") as file:
            notes = json.loads(file.metadata()["notes"])
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(f"Expected {path} to be a checkpoint of the lab: {error}") from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds the file `path`, which is made if it is missing; waits while another process holds it.

    The system lets go of it when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def as_json(value: Mapping[str, object]) -> dict[str, Json]:
    """Returns `value` as it comes back from JSON: tuples as lists, keys as strings."""
    same: dict[str, Json] = json.loads(json.dumps(value))
    return same


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Returns the state of an optimizer as `optimizer.<parameter>.<name>`; its settings are the recipe's."""
    state: dict[int, dict[str, Tensor | float | None]] = optimizer.state_dict()["state"]
    return {
        f"optimizer.{place}.{name}": torch.as_tensor(value)
        for place, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the state of an optimizer back: the tensors `[…]` that `optimizer_tensors` returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in strip_prefix("optimizer.", tensors).items():
        place, _, name = key.partition(".")
        parameter = parameters[int(place)]
        if value.shape == parameter.shape:  # files hold contiguous tensors; fused steps go by the parameter's strides
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
