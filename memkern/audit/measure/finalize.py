"""Last step of an audit: from the readings in one or more RUN folders to the final files, without encoder or images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from memkern._util.text import first_of
from memkern.audit.measure.begun import IMAGES, check_images, check_same, clear_disk_errors, read_plan, write_plan
from memkern.audit.measure.encoder_readings import EncoderReadings, join
from memkern.audit.measure.family import RANKED_BY_ENCODERS
from memkern.audit.measure.plan import make_manifest
from memkern.audit.measure.reading_files import (
    copy_readings,
    done,
    read_means,
    read_reading,
    trim_reading,
)
from memkern.audit.measure.shard import PHASES
from memkern.audit.measure.tables import MeansOf, Measured, known_columns, tables
from memkern.audit.run_folder.columns import Columns
from memkern.audit.run_folder.reader import Run, read_table
from memkern.audit.run_folder.schema import EncoderPlan, Plan
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
    for folder in folders:
        there = read_plan(folder)
        check_same(there.plan, begun.plan, folder)
        if folder == folders[0] or (folder / IMAGES).exists():
            check_images(folder, there)
    plan, images = begun.plan, read_table(folders[0] / IMAGES).to_pydict()
    measured = measured_in(folders, plan, images, begun.about.data.duplicates)
    made = tables(measured)
    seconds = torch.stack([each.seconds for each in measured.readings.values()]).sum(0)
    manifest = make_manifest(begun, dict(zip(PHASES, seconds.tolist(), strict=True)), made.significance)
    with clear_disk_errors(out):
        for each in plan.encoders:
            for number, folder in enumerate(_folders_of_shards(folders, plan, each)):
                copy_readings(folder, out, each, number)
        run = write_run(
            out,
            samples=made.samples,
            units=made.units,
            layers=made.layers,
            encoders=made.encoders,
            state=made.state,
            manifest=manifest,
        )
        if out not in folders:
            write_plan(out, begun)
    tidy(out, plan)
    return run


def measured_in(
    folders: Sequence[Path], plan: Plan, images: Columns, duplicates: Sequence[tuple[str, str, str]]
) -> Measured:
    """Reads what an audit measured.

    Args:
        folders: RUN folders of the audit that hold its readings.
        plan: Its plan.
        images: Columns of the list of images.
        duplicates: Image, its copy, "exact" or "near".

    Returns:
        What was measured.

    Raises:
        PlanError: If readings are missing or damaged; the message says which.
    """
    where = {each.name: _folders_of_shards(folders, plan, each) for each in plan.encoders}
    read = {name: join(read_reading(run, name, k) for k, run in enumerate(ordered)) for name, ordered in where.items()}
    _require_same_pixels(read)
    if len(read) >= RANKED_BY_ENCODERS:  # alignments within half of the views are not needed, and twice the others
        read = {name: replace(each, halves=each.halves[..., :0]) for name, each in read.items()}
    return Measured(plan, known_columns(images), read, duplicates, _means_of(where) if plan.median else None)


def _require_same_pixels(read: Mapping[str, EncoderReadings]) -> None:
    """Requires all encoders to have read the same pixels on each shard."""
    first, *others = read
    for name in others:
        pairs = zip(read[first].contents.split(" "), read[name].contents.split(" "), strict=True)
        bad = [number for number, (one, other) in enumerate(pairs) if one != other]
        if bad:
            raise PlanError(
                f"Expected {first} and {name} to be read on the same images, got other pixels on shard "
                f"{first_of(bad, 8)}: files changed in between, or are not the same for all processes; remove these "
                "readings and go on with --resume"
            )


def _folders_of_shards(folders: Sequence[Path], plan: Plan, encoder: EncoderPlan) -> list[Path]:
    """The folder that has an encoder's reading of each shard, the first one that does."""
    where = {number: folder for folder in reversed(folders) for number in done(folder, plan, encoder)}
    missing = [number for number in range(plan.n_shards) if number not in where]
    if missing:
        listed = first_of(missing, 8)
        raise PlanError(
            f"Expected {encoder.name} on all {plan.n_shards} shards in {', '.join(map(str, folders))}; missing: "
            f"{listed}; run the part that has them, shard k is in part k % n + 1 of n, or go on with --resume"
        )
    return [where[number] for number in range(plan.n_shards)]


def _means_of(where: Mapping[str, Sequence[Path]]) -> MeansOf:
    """Reads the means of some units on all images, `[N, units]`, from the files of the shards."""
    return lambda encoder, units: torch.cat(
        [read_means(folder, encoder, number, units) for number, folder in enumerate(where[encoder])]
    )


def tidy(folder: Path, plan: Plan) -> None:
    """Removes from a finished RUN what was needed until then.

    Readings stay, for encoders that are added later; where the output alone is kept, its alignments do.
    """
    (folder / IMAGES).unlink(missing_ok=True)
    if plan.keep == "output":
        place = [layer.name for layer in plan.layers].index(plan.output)
        for each in plan.encoders:
            for number in done(folder, plan, each):
                trim_reading(folder, each.name, number, place)
