"""Shards: the unit of work that is written whole or not at all, and what RUN holds until an audit is complete.

```
plan.json             what is measured; a run that goes on must have the same
images.parquet        the images, one row each
shards/00000.safetensors, shards/00001.safetensors, …
```

A shard depends on the plan and its own images alone. So any process may measure a shard, after any number of
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

from torch import Tensor

from memkern._util.files import read_json, replace_atomically, strip_prefix, write_json
from memkern._util.optional_imports import require
from memkern._util.records import Json
from memkern.audit.run_folder.schema import MANIFEST, PLAN, Plan, PlanFile
from memkern.errors import PlanError

FOLDER = "shards"


@dataclass(frozen=True)
class Shard:
    """States of some consecutive images; U units of all layers side by side, L layers, n images.

    Attributes:
        rows: First row, and the one after the last.
        alignment_f: `[L, n]` float32.
        alignment_g: `[L, n]` float32; `[0, n]` without a reference.
        units: State of `UnitMem` over all units: peak, index, rest, low `[U]`, count; means `[n, U]` for the median.
        classes: State of `ClassMem` over all units: sums `[C, U]`, count `[C]`; empty without labels.
        seconds: `[len(PHASES)]`, what each phase of the work took.
    """

    rows: tuple[int, int]
    alignment_f: Tensor
    alignment_g: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    seconds: Tensor


def path_of(folder: Path, number: int) -> Path:
    """Returns the path of the file of a shard."""
    return folder / FOLDER / f"{number:05d}.safetensors"


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Writes a shard atomically.

    Args:
        folder: The RUN folder.
        number: Number of the shard.
        shard: What was measured.

    Raises:
        OSError: If the file cannot be written; where the disk is full, the message says what to do.
    """
    tensors = {
        "alignment_f": shard.alignment_f,
        "alignment_g": shard.alignment_g,
        "seconds": shard.seconds,
        **{f"units/{name}": value for name, value in shard.units.items()},
        **{f"classes/{name}": value for name, value in shard.classes.items()},
    }
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with clear_disk_errors(folder), replace_atomically(path_of(folder, number)) as temporary:
        require("safetensors.torch", "safetensors").save_file(
            whole, temporary, metadata={"rows": f"{shard.rows[0]}:{shard.rows[1]}"}
        )


def read_shard(folder: Path, number: int) -> Shard:
    """Reads a shard.

    Args:
        folder: The RUN folder.
        number: Number of the shard.

    Returns:
        The shard.

    Raises:
        PlanError: If the file is damaged.
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

    return Shard(
        (int(start), int(stop)),
        tensors["alignment_f"],
        tensors["alignment_g"],
        strip_prefix("units/", tensors),
        strip_prefix("classes/", tensors),
        tensors["seconds"],
    )


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Explains a write to RUN that failed because the disk is full: nothing is lost, and what to do."""
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
        PlanError: If the folder holds an audit that was not asked to be resumed, or none that could be.
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


def begin(folder: Path, begun: PlanFile) -> bool:
    """Writes the plan, or checks that the one that is there is the same.

    Args:
        folder: The RUN folder; made if it is missing.
        begun: The plan, and what else is known.

    Returns:
        Whether the audit is complete already.

    Raises:
        PlanError: If the folder holds another audit.
    """
    if (folder / PLAN).exists():
        check_same(read_plan(folder).plan, begun.plan, folder)
        return (folder / MANIFEST).exists()
    with clear_disk_errors(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        write_plan(folder, begun)
    return False


def write_plan(folder: Path, begun: PlanFile) -> None:
    """Writes plan.json."""
    write_json(folder / PLAN, begun.to_json())


def clean(folder: Path) -> None:
    """Removes what a process that was killed left while it wrote; no other process may be writing."""
    for stale in [*folder.glob(".*.part*"), *(folder / FOLDER).glob(".*.part*")]:
        stale.unlink(missing_ok=True)


def done(folder: Path) -> list[int]:
    """Numbers of the shards in a folder."""
    return sorted(int(path.stem) for path in (folder / FOLDER).glob("[0-9]*.safetensors"))


def read_plan(folder: Path) -> PlanFile:
    """Reads plan.json.

    Args:
        folder: The RUN folder.

    Returns:
        The plan, and what else was known when the audit began.

    Raises:
        PlanError: If there is none, or it is damaged or of a later memkern.
    """
    path = folder / PLAN
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise PlanError(f"Expected {folder} to hold an audit's {PLAN}; there is none") from error
    except ValueError as error:
        raise PlanError(f"Expected {path} to be an audit's plan, got: {error}") from error
    if isinstance(found, dict):
        found.setdefault("format", f"{PlanFile.FORMAT}-1")  # memkern 0.1.0 wrote none
    return PlanFile.from_json(found, path)


def check_same(old: Plan, new: Plan, folder: Path) -> None:
    """Requires two plans to be equal.

    Args:
        old: The plan that the folder holds.
        new: The plan of the audit that shall go on.
        folder: The RUN folder, for the error message.

    Raises:
        PlanError: If a field differs; the message names the first one.
    """
    before, now = old.to_json(), new.to_json()
    for name, value in now.items():
        if before[name] != value:
            raise PlanError(
                f"Expected `{name}` to be {_short(before[name])} like the audit in {folder}, got {_short(value)}; "
                "use another --out"
            )


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
