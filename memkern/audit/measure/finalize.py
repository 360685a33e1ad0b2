"""Last step of an audit: from the readings in one or more RUN folders to the final files, without encoder or images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from memkern._util.text import first_of
from memkern.audit.measure.begun import IMAGES, check_same, clear_disk_errors, read_plan, write_plan
from memkern.audit.measure.plan import make_manifest
from memkern.audit.measure.readings import copy_readings, done, join, read_means, read_reading
from memkern.audit.measure.shard import PHASES
from memkern.audit.measure.tables import of_pair, tables
from memkern.audit.run_folder.reader import Run, read_table
from memkern.audit.run_folder.schema import SAMPLES, EncoderPlan, Plan
from memkern.audit.run_folder.writer import write_run
from memkern.errors import PlanError


def finalize(folders: Sequence[Path], out: Path) -> Run:
    """Writes the final files of an audit, all readings of which are there.

    Args:
        folders: RUN folders of the same audit that hold its readings.
        out: The RUN folder to write; may be one of them. Readings of the others are copied there.

    Returns:
        The run.

    Raises:
        PlanError: If a folder holds another audit, or readings are missing; the message says which.
        OSError: If a file cannot be written.
    """
    begun = read_plan(folders[0])
    for folder in folders[1:]:
        check_same(read_plan(folder).plan, begun.plan, folder)
    plan = begun.plan
    where = {each.name: _folders_of_shards(folders, plan, each) for each in plan.encoders}
    f, g = plan.encoders[0].name, next((each.name for each in plan.encoders if each.role == "g"), None)
    kept, times = {}, []
    for name, ordered in where.items():
        reading = join(read_reading(run, name, number) for number, run in enumerate(ordered))
        times.append(reading.seconds)
        if name in (f, g):  # one encoder more than the pair is in memory
            kept[name] = reading
    seconds = torch.stack(times).sum(0)
    measured = of_pair(kept[f], None if g is None else kept[g], seconds)
    images = {name: column for name, column in read_table(folders[0] / IMAGES).to_pydict().items() if name in SAMPLES}
    if all(label is None for label in images["label"]):
        del images["label"]
    made = tables(plan, images, measured, _means_of(f, where[f]) if plan.median else None)
    manifest = make_manifest(begun, dict(zip(PHASES, seconds.tolist(), strict=True)))
    with clear_disk_errors(out):
        for each in plan.encoders:
            for number, folder in enumerate(where[each.name]):
                copy_readings(folder, out, each, number)
        run = write_run(
            out, samples=made.samples, units=made.units, layers=made.layers, state=made.state, manifest=manifest
        )
        if out not in folders:
            write_plan(out, begun)
    tidy(out)
    return run


def _folders_of_shards(folders: Sequence[Path], plan: Plan, encoder: EncoderPlan) -> list[Path]:
    """The folder that has an encoder's reading of each shard, the first one that does."""
    where = {number: folder for folder in reversed(folders) for number in done(folder, encoder)}
    missing = [number for number in range(plan.n_shards) if number not in where]
    if missing:
        listed = first_of(missing, 8)
        raise PlanError(
            f"Expected {encoder.name} on all {plan.n_shards} shards in {', '.join(map(str, folders))}; missing: "
            f"{listed}; run the part that has them, shard k is in part k % n + 1 of n, or go on with --resume"
        )
    return [where[number] for number in range(plan.n_shards)]


def _means_of(encoder: str, ordered: Sequence[Path]) -> Callable[[int, int], Tensor]:
    """Reads the means of some units on all images, `[N, stop - start]`, from the files of the shards."""
    return lambda start, stop: torch.cat(
        [read_means(folder, encoder, number, slice(start, stop)) for number, folder in enumerate(ordered)]
    )


def tidy(folder: Path) -> None:
    """Removes from a finished RUN what was needed until then; readings stay, for encoders that are added later."""
    (folder / IMAGES).unlink(missing_ok=True)
