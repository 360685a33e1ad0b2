"""Plan and manifest of an audit: what decides its result, and what else is recorded."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import memkern
from memkern._util.files import sha256
from memkern._util.records import Json
from memkern.audit.data.membership import SeenImages
from memkern.audit.data.source import list_digest
from memkern.audit.encoders.build import anywhere, encoder_files, encoder_kinds
from memkern.audit.encoders.spec import parse
from memkern.audit.measure.images import CheckedImages
from memkern.audit.measure.job import Job
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import (
    About,
    CandidatesEntry,
    DataEntry,
    EncoderEntry,
    EncoderPlan,
    LayerPlan,
    Manifest,
    Plan,
    PlanFile,
    ViewCall,
    WeightsEntries,
)
from memkern.audit.run_folder.significance import Significance
from memkern.audit.taps.modules import named_layers
from memkern.audit.taps.transformer_blocks import Block, find_blocks
from memkern.errors import ProcessError
from memkern.families.cells import IN, UNKNOWN, Membership


def make_plan(job: Job, images: CheckedImages, size: tuple[int, int]) -> Plan:
    """Makes the plan of an audit: everything that decides its numbers.

    Args:
        job: What is measured.
        images: The images, and who saw them.
        size: Height and width of the views, pixels.

    Returns:
        The plan.
    """
    options, source, seen, layers = job.options, job.source, images.seen, job.layers[0]
    contents = None if images.contents is None else _digest(images.contents)
    candidates = [source.ids[row] for row in np.flatnonzero(seen.candidates)]
    blocks = find_blocks(list(named_layers(job.encoders.example)))
    plan = Plan(
        memkern=memkern.__version__,
        torch=torch.__version__,
        encoder=_kinds(job),
        encoder_file=None,
        weights="",
        reference=None,
        data=list_digest([source.digest, *source.ids]),
        n_images=len(source),
        labels=None if source.labels is None else list_digest(source.labels),
        candidates=list_digest(candidates) if candidates else None,
        views=options.views,
        transform=options.spec(),
        size=size,
        pairs=options.pairs,
        normalize=options.normalize,
        distance=options.distance,
        activation=options.activation,
        seed=options.seed,
        batch_size=job.batch_size,
        shard_size=options.shard_size,
        median=options.median,
        precision=options.precision,
        device=options.torch_device().type,
        allow_nan=options.allow_nan,
        layers=tuple(
            LayerPlan(hook_point.name, hook_point.units, len(source), tuple(hook_point.shape))
            for hook_point in layers.hook_points
        ),
        output=job.output,
        blocks=tuple(Block(*[layers.same.get(name, name) for name in block]) for block in blocks),
        groups=list_digest([*seen.groups, "", *seen.pictures]) if seen.groups or seen.pictures else None,
        control=options.control,
        level=options.level,
        fdr=options.fdr,
        contents=contents,
        versions=_versions(job),
        keep=options.keep,
    )
    of_run = plan.read_digest
    encoders = tuple(_encoder(job, seen, place, of_run) for place in range(len(job.encoders)))
    g = next((each for each in encoders if each.role == "g"), None)
    first = encoders[0]
    return replace(
        plan,
        encoder_file=first.encoder_file,
        weights=first.weights,
        reference=None if g is None else g.weights,
        encoders=encoders,
    )


def _versions(job: Job) -> dict[str, str]:
    """Versions of the packages that build these encoders and decode images: others may give other numbers."""
    kinds = {kind.name: kind.package for kind in encoder_kinds()}
    used = {kinds.get(parse(line.encoder, tuple(kinds)).prefix, "") for line in job.encoders.lines}
    found = {}
    for package in sorted({"pillow", *used} - {""}):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def require_one_plan(plan: Plan, group: ProcessGroup) -> None:
    """Requires all processes to have the same plan, before any of them works.

    Args:
        plan: The plan of this process.
        group: The processes; all must call this.

    Raises:
        ProcessError: If a process has another plan; the message names it and what differs.
    """
    if len(set(group.gather(plan.digest))) == 1:
        return
    plans = group.gather(plan.to_json())
    rank, (name, here, there) = next(
        (rank, found) for rank, each in enumerate(plans) if (found := _first_difference(plans[0], each)) is not None
    )
    raise ProcessError(
        f"Expected all processes to measure the same, got another `{name}` in process {rank} of {group.size}: "
        f"{short(there)}, not {short(here)} as in process 0; give all of them the same files, options and versions"
    )


def _first_difference(one: Json, other: Json, path: str = "") -> tuple[str, Json, Json] | None:
    """Finds the first place at which two values of JSON differ: its name, and both values; `None` if none does."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(place), *both) for place, both in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else (path, one, other)
    found = (_first_difference(a, b, f"{path}.{key}" if path else key) for key, a, b in pairs)
    return next((each for each in found if each is not None), None)


def short(value: Json) -> str:
    """Writes a value of JSON for a message, no longer than 60 characters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _encoder(job: Job, seen: SeenImages, place: int, of_run: str) -> EncoderPlan:
    entry, column = job.encoders.entries[place], seen.membership[:, place]
    line, code = entry.line, _code_digest(entry.line.encoder)
    by_class = line.name in job.by_class and job.source.labels is not None
    balanced = None if job.balanced is None else _digest(job.balanced.numpy())
    return EncoderPlan(
        name=line.name,
        role=line.role,
        encoder=line.encoder,
        encoder_file=code,
        weights=entry.weights.sha256,
        members=_digest(column) if (column != UNKNOWN).any() else None,
        units=tuple(hook_point.units for hook_point in job.layers[place].hook_points),
        readings=list_digest([of_run, anywhere(line.encoder), code, entry.weights.sha256, by_class, balanced]),
    )


def _digest(values: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _kinds(job: Job) -> str:
    return ", ".join(dict.fromkeys(line.encoder for line in job.encoders.lines))


def _code_digest(encoder: str) -> str | None:
    digests = [sha256(file) for file in encoder_files(encoder)]
    return list_digest(digests) if len(digests) > 1 else digests[0] if digests else None


def make_about(job: Job, images: CheckedImages, plan: Plan) -> About:
    """Collects what the manifest says besides the plan when an audit begins."""
    options, source, seen, entries = job.options, job.source, images.seen, job.encoders.entries
    g = [each for each in entries if each.line.role == "g"]
    reference = ", ".join(options.reference or [each.line.weights for each in g]) if g else None
    if any(not each.line.role for each in entries):
        reference = options.encoders
    return About(
        versions={
            "memkern": memkern.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        encoder=plan.encoder,
        reference=reference,
        weights=WeightsEntries(entries[0].weights, g[0].weights if g else None),
        data=DataEntry(
            source=source.name,
            n_images=len(source),
            n_listed=images.n_listed,
            list_sha256=plan.data,
            classes=None if source.labels is None else tuple(source.classes or ()),
            skipped=tuple(images.skipped),
            repeated=source.repeated,
            duplicates=tuple(images.duplicates),
            exif=source.exif,
            left_out=dict(source.left_out),
            check=options.check,
            folder=os.getcwd() if any(not path.startswith(os.sep) for path in source.paths or ()) else None,
        ),
        candidates=None if plan.candidates is None else CandidatesEntry(int(seen.candidates.sum()), plan.candidates),
        views=job.views,
        options={name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        device=str(options.torch_device()),
        precision=options.precision,
        backends=tuple(asdict(info) for info in memkern.backends()),
        encoders=tuple(
            EncoderEntry(each.line.name, each.line.role, each.line.encoder, each.weights, _n_members(column))
            for each, column in zip(entries, seen.membership.T, strict=True)
        ),
        left_out={name: why for layers in reversed(job.layers) for name, why in layers.left_out.items()},
        notes={name: note for layers in reversed(job.layers) for name, note in layers.notes.items()},
        units_by=job.layers[0].units_by,
    )


def _n_members(column: Membership) -> int | None:
    """Number of images that an encoder is known to have been trained on; `None` if nobody says."""
    return int((column == IN).sum()) if (column != UNKNOWN).any() else None


def make_views(options: Options, size: tuple[int, int]) -> ViewCall:
    """Makes the record of the views that the options ask for, of the height and width `size`, pixels."""
    return ViewCall(
        n_views=options.views,
        transform=options.transform,
        spec=options.spec(),
        seed=options.seed,
        size=size,
        pairs=options.pairs,
        normalize=options.normalize,
        distance=options.distance,
        activation=options.activation,
    )


def make_manifest(begun: PlanFile, seconds: Mapping[str, float], significance: Significance | None) -> Manifest:
    """Makes the manifest of a complete audit.

    Args:
        begun: What was known when it began.
        seconds: Phase of the work -> seconds, summed over shards.
        significance: How sure the scores are over trainings.

    Returns:
        The manifest, its `files` still empty.
    """
    plan = begun.plan
    wall = {phase: round(value, 3) for phase, value in seconds.items()}
    return Manifest(
        **vars(begun.about),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        layers=plan.layers,
        output=plan.output,
        blocks=plan.blocks,
        wall={**wall, "total": round(sum(seconds.values()), 3)},
        shards=plan.n_shards,
        plan=plan,
        significance=significance,
        files={},
    )
