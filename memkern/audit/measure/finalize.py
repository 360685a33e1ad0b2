"""The last step: from the shards in one or more RUN folders to the final files. It needs neither encoder nor images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern.audit.measure import shard_files as shards
from memkern.audit.measure.shard import PARTS
from memkern.audit.measure.tables import Tables, put_together, tables
from memkern.audit.run_folder import store
from memkern.errors import PlanError

IMAGES = "images.parquet"


def write_images(folder: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Writes the list of images of an audit that has begun: id, index, path, label, candidate."""
    arrow, parquet = require("pyarrow", "pyarrow"), require("pyarrow.parquet", "pyarrow")
    types = {name: getattr(arrow, store.SAMPLES[name])() for name in columns}
    arrays = {name: arrow.array(values, type=types[name]) for name, values in columns.items()}
    with shards.clear_disk_errors(folder), replace_atomically(folder / IMAGES) as part:
        parquet.write_table(arrow.table(arrays), part)


def finish(folders: Sequence[Path], out: Path) -> store.Run:
    """Writes the final files of an audit, all shards of which are there.

    Args:
        folders: RUN folders of the same audit that hold its shards.
        out: The RUN folder to write; may be one of them, whose shards are then removed.

    Returns:
        The run.

    Raises:
        PlanError: If a folder holds another audit, or shards are missing; the message says which.
        OSError: If a file cannot be written.
    """
    whole = shards.read_plan(folders[0])
    plan, about = whole["plan"], whole["about"]
    for folder in folders[1:]:
        shards.check_same(shards.read_plan(folder)["plan"], plan, folder)
    where = {number: folder for folder in reversed(folders) for number in shards.done(folder)}
    total = -(-plan["n_images"] // plan["shard_size"])
    missing = [number for number in range(total) if number not in where]
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        raise PlanError(
            f"Expected all {total} shards in {', '.join(map(str, folders))}; missing: {listed}; "
            "run the part that has them, shard k is in part k % n + 1 of n"
        )
    ordered = [where[number] for number in range(total)]
    measured = put_together(shards.read_shard(folder, number) for number, folder in enumerate(ordered))
    images = store.read_table(folders[0] / IMAGES).to_pydict()
    if all(label is None for label in images["label"]):
        images["label"] = None
    means_of = None
    if plan["median"]:

        def means_of(start: int, stop: int) -> Tensor:
            return torch.cat(list(_columns(ordered, start, stop)))

    made: Tables = tables(plan, {k: v for k, v in images.items() if v is not None}, measured, means_of)
    seconds = dict(zip(PARTS, (round(value, 3) for value in measured.seconds.tolist()), strict=True))
    manifest = {
        **about,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "layers": plan["layers"],
        "output": plan["output"],
        "blocks": plan["blocks"],
        "wall": {**seconds, "total": round(sum(measured.seconds.tolist()), 3)},
        "shards": total,
        "plan": plan,
    }
    with shards.clear_disk_errors(out):
        run = store.write_run(
            out, samples=made.samples, units=made.units, layers=made.layers, state=made.state, manifest=manifest
        )
    if out not in folders:
        with shards.clear_disk_errors(out):
            shards.write_plan(out, whole)
    tidy(out)
    return run


def tidy(folder: Path) -> None:
    """Removes from a finished RUN what was needed until then."""
    shutil.rmtree(folder / shards.FOLDER, ignore_errors=True)
    (folder / IMAGES).unlink(missing_ok=True)


def _columns(ordered: Sequence[Path], start: int, stop: int) -> Iterator[Tensor]:
    """The means `[n, stop - start]` of a layer's units, shard by shard; the rest of the files is not read."""
    safe_open = require("safetensors", "safetensors").safe_open
    for number, folder in enumerate(ordered):
        with safe_open(shards.path_of(folder, number), "pt") as file:
            yield file.get_slice("units/means")[:, start:stop]
