"""Last step of an audit: from the shards in one or more RUN folders to the final files, without encoder or images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern._util.text import first_of
from memkern.audit.measure import shard_files
from memkern.audit.measure.family import FamilyOptions
from memkern.audit.measure.plan import make_manifest
from memkern.audit.measure.readings import EncoderReadings
from memkern.audit.measure.shard import PHASES
from memkern.audit.measure.tables import MeansOf, Measured, tables
from memkern.audit.run_folder.columns import SAMPLES, Columns
from memkern.audit.run_folder.reader import Run, read_table
from memkern.audit.run_folder.schema import Plan
from memkern.audit.run_folder.writer import write_run
from memkern.errors import PlanError
from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem

IMAGES = "images.parquet"


def write_images(folder: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Writes the list of images of an audit that has begun: id, index, path, label, candidate."""
    arrow, parquet = require("pyarrow", "pyarrow"), require("pyarrow.parquet", "pyarrow")
    types = {name: getattr(arrow, SAMPLES[name])() for name in columns}
    arrays = {name: arrow.array(values, type=types[name]) for name, values in columns.items()}
    with shard_files.clear_disk_errors(folder), replace_atomically(folder / IMAGES) as temporary:
        parquet.write_table(arrow.table(arrays), temporary)


def finalize(folders: Sequence[Path], out: Path) -> Run:
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
    begun = shard_files.read_plan(folders[0])
    for folder in folders[1:]:
        shard_files.check_same(shard_files.read_plan(folder).plan, begun.plan, folder)
    ordered = _folders_of_shards(folders, begun.plan)
    readings = read_pair(shard_files.read_shard(folder, number) for number, folder in enumerate(ordered))
    measured = Measured(
        plan=begun.plan,
        images=_known_columns(read_table(folders[0] / IMAGES).to_pydict(), readings),
        readings=readings,
        roles={name: name for name in readings},
        duplicates=begun.about.data.duplicates,
        means_of=_means_of(ordered) if begun.plan.median else None,
    )
    made = tables(measured, family_options(begun.about.options))
    seconds = torch.stack([each.seconds for each in readings.values()]).sum(0)
    manifest = make_manifest(begun, dict(zip(PHASES, seconds.tolist(), strict=True)), made.significance)
    with shard_files.clear_disk_errors(out):
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
        with shard_files.clear_disk_errors(out):
            shard_files.write_plan(out, begun)
    tidy(out)
    return run


def family_options(options: Mapping[str, object]) -> FamilyOptions:
    """Picks what decides the scores over trainings from the options of an audit."""
    return FamilyOptions.from_json(
        {field.name: options[field.name] for field in fields(FamilyOptions) if field.name in options}, "the options"
    )


def _known_columns(images: Columns, readings: Mapping[str, EncoderReadings]) -> Columns:
    """The columns of images that say anything, with the membership that candidates of a pair give."""
    found = {name: values for name, values in images.items() if any(value is not None for value in values)}
    for name in readings:
        found[f"member/{name}"] = [(1 if name == "f" else 0) if flag else -1 for flag in images["candidate"]]
    if any(images["candidate"]):
        found["group"] = ["candidate" if flag else None for flag in images["candidate"]]
    return found


def read_pair(shards: Iterable[shard_files.Shard]) -> dict[str, EncoderReadings]:
    """Folds the states of shards together, in the given order; one shard is in memory at a time."""
    units, classes = UnitMem(), ClassMem()
    alignment: dict[str, list[Tensor]] = {"f": [], "g": []}
    seconds = []
    for shard in shards:
        alignment["f"].append(shard.alignment_f)
        alignment["g"].append(shard.alignment_g)
        seconds.append(shard.seconds)
        of_units, of_classes = UnitMem(), ClassMem()
        of_units.load_state_dict({name: value for name, value in shard.units.items() if name != "means"})
        of_classes.load_state_dict(dict(shard.classes))
        units.merge(of_units)
        classes.merge(of_classes)
    a_f, a_g = (torch.cat(each, 1) for each in alignment.values())
    halves, rows, total = torch.zeros(2, len(a_f), 0), torch.zeros(a_f.shape[1], 0), torch.stack(seconds).sum(0)
    found = {"f": EncoderReadings(a_f, halves, rows, units.state_dict(), classes.state_dict(), {}, total)}
    if len(a_g):
        found["g"] = EncoderReadings(a_g, halves, rows, {}, {}, {}, torch.zeros_like(total))
    return found


def _folders_of_shards(folders: Sequence[Path], plan: Plan) -> list[Path]:
    """The folder of each shard, the first one that has it."""
    where = {number: folder for folder in reversed(folders) for number in shard_files.done(folder)}
    missing = [number for number in range(plan.n_shards) if number not in where]
    if missing:
        listed = first_of(missing, 8)
        raise PlanError(
            f"Expected all {plan.n_shards} shards in {', '.join(map(str, folders))}; missing: {listed}; "
            "run the part that has them, shard k is in part k % n + 1 of n"
        )
    return [where[number] for number in range(plan.n_shards)]


def _means_of(ordered: Sequence[Path]) -> MeansOf:
    """Reads the means of some units on all images, `[N, stop - start]`, from the files of the shards."""
    return lambda encoder, start, stop: torch.cat(list(_columns(ordered, start, stop)))


def tidy(folder: Path) -> None:
    """Removes from a finished RUN what was needed until then."""
    shutil.rmtree(folder / shard_files.FOLDER, ignore_errors=True)
    (folder / IMAGES).unlink(missing_ok=True)


def _columns(ordered: Sequence[Path], start: int, stop: int) -> Iterator[Tensor]:
    """The means `[n, stop - start]` of a layer's units, shard by shard; the rest of the files is not read."""
    safe_open = require("safetensors", "safetensors").safe_open
    for number, folder in enumerate(ordered):
        with safe_open(shard_files.path_of(folder, number), "pt") as file:
            yield file.get_slice("units/means")[:, start:stop]
