"""Shards: the unit of work that is written whole or not at all, and what RUN holds until an audit is complete.

```
plan.json             what is measured; a run that goes on must have the same
images.parquet        the images, one row each
shards/00000.safetensors, shards/00001.safetensors, …
```

A shard depends on the plan and its own images alone. So it does not matter which process did it, or after how many
interruptions, and the final files, made from all shards in their order, are the same bits.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from memkern._util.files import read_json, replace_atomically, write_json
from memkern._util.optional_imports import require
from memkern.errors import PlanError

PLAN = "plan.json"
MANIFEST = "manifest.json"
FOLDER = "shards"


@dataclass(frozen=True)
class Shard:
    """What is kept of a run of consecutive images; U units of all layers side by side, L layers.

    Attributes:
        rows: First row, and the one after the last.
        alignment_f: `[L, n]` float32.
        alignment_g: `[L, n]` float32; `[0, n]` without a reference.
        units: State of `UnitMem` over all units: peak, index, rest, low `[U]`, count; means `[n, U]` for the median.
        classes: State of `ClassMem` over all units: sums `[C, U]`, count `[C]`; empty without labels.
        seconds: `[len(PARTS)]`, what each part of the work took.
    """

    rows: tuple[int, int]
    alignment_f: Tensor
    alignment_g: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    seconds: Tensor


def path_of(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / FOLDER / f"{number:05d}.safetensors"


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Writes a shard atomically.

    Raises:
        OSError: If it cannot be written; of a full disk, with what to do.
    """
    tensors = {
        "alignment_f": shard.alignment_f,
        "alignment_g": shard.alignment_g,
        "seconds": shard.seconds,
        **{f"units/{name}": value for name, value in shard.units.items()},
        **{f"classes/{name}": value for name, value in shard.classes.items()},
    }
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with clear_disk_errors(folder), replace_atomically(path_of(folder, number)) as part:
        require("safetensors.torch", "safetensors").save_file(
            whole, part, metadata={"rows": f"{shard.rows[0]}:{shard.rows[1]}"}
        )


def read_shard(folder: Path, number: int) -> Shard:
    """Reads a shard.

    Raises:
        PlanError: If it is damaged.
    """
    safe_open = require("safetensors", "safetensors").safe_open
    path = path_of(folder, number)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            start, _, stop = file.metadata()["rows"].partition(":")
    except ImportError:
        raise
    except Exception as error:  # safetensors raises its own kinds
        raise PlanError(f"Expected {path} to be a shard, got: {error}; remove it and go on with --resume") from error

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    return Shard(
        (int(start), int(stop)),
        tensors["alignment_f"],
        tensors["alignment_g"],
        part("units/"),
        part("classes/"),
        tensors["seconds"],
    )


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Says of a write to RUN that failed because the disk is full what is lost (nothing) and what to do."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        # safetensors reports the system's error as text
        if full or re.search(r"os error (27|28|122)\b|No space left", str(error)):
            raise OSError(
                f"No space left for {folder}; finished shards are kept: make room and run again with --resume"
            ) from error
        raise


# ---- the plan -------------------------------------------------------------------------------------------------------


def check_out(folder: Path, *, resume: bool, shared: bool) -> None:
    """Requires a folder in which an audit may be begun or gone on with; what audit it holds is not looked at.

    Args:
        folder: The RUN folder.
        resume: Whether to go on with what is there.
        shared: Whether other processes may have begun it.

    Raises:
        PlanError: If it holds an audit that was not asked to be resumed, or none that could be.
    """
    begun, complete = (folder / PLAN).exists(), (folder / MANIFEST).exists()
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"Expected --out to be a folder, got the file {folder}")
    if complete and not begun:
        raise PlanError(f"Expected --out to be a new folder, got {folder}, which holds results of another program")
    if resume and not (begun or shared):
        raise PlanError(f"Expected {folder} to hold an audit to --resume, got none there")
    if begun and not (resume or shared):
        held, fix = ("a complete", "") if complete else ("an unfinished", "go on with --resume, or ")
        raise PlanError(f"Expected --out to be a new folder, got {folder} with {held} audit; {fix}choose another")


def begin(folder: Path, plan: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Writes the plan, or checks that the one that is there is the same.

    Args:
        folder: The RUN folder; made if it is missing.
        plan: What decides the result: field -> value.
        about: What else is known: paths, versions, skipped images.

    Returns:
        Whether the audit is complete already.

    Raises:
        PlanError: If the folder holds another audit.
    """
    plan = json.loads(json.dumps(plan))  # as it will come back: tuples are lists
    if (folder / PLAN).exists():
        check_same(read_plan(folder)["plan"], plan, folder)
        return (folder / MANIFEST).exists()
    with clear_disk_errors(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        write_plan(folder, {"plan": plan, "about": about})
    return False


def write_plan(folder: Path, whole: Mapping[str, Any]) -> None:
    """Writes plan.json."""
    write_json(folder / PLAN, whole)


def clean(folder: Path) -> None:
    """Removes what a process that was killed left while it wrote; no other process may be writing."""
    for stale in [*folder.glob(".*.part*"), *(folder / FOLDER).glob(".*.part*")]:
        stale.unlink(missing_ok=True)


def done(folder: Path) -> list[int]:
    """Numbers of the shards in a folder."""
    return sorted(int(path.stem) for path in (folder / FOLDER).glob("[0-9]*.safetensors"))


def read_plan(folder: Path) -> dict[str, Any]:
    """What plan.json says: "plan", which decides the result, and "about".

    Raises:
        PlanError: If there is none.
    """
    try:
        plan: dict[str, Any] = read_json(folder / PLAN)
        _ = plan["plan"], plan["about"]
    except FileNotFoundError as error:
        raise PlanError(f"Expected {folder} to hold an audit's {PLAN}; there is none") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"Expected {folder / PLAN} to be an audit's plan, got: {error}") from error
    return plan


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Requires two plans to be equal.

    Raises:
        PlanError: If they are not; the message names the first field that differs.
    """
    for name in [*new, *old]:
        before, now = old.get(name, "nothing"), new.get(name, "nothing")
        if before != now:
            raise PlanError(
                f"Expected `{name}` to be {_short(before)} like the audit in {folder}, got {_short(now)}; "
                "use another --out"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
