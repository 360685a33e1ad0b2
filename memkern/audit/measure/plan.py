"""Plan and manifest of an audit: what decides its result, and what else is recorded."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

import memkern
from memkern._util.files import sha256
from memkern.audit.data.source import list_digest
from memkern.audit.encoders.spec import parse
from memkern.audit.measure.images import CheckedImages
from memkern.audit.measure.job import Job
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import (
    About,
    CandidatesEntry,
    DataEntry,
    LayerPlan,
    Manifest,
    Plan,
    PlanFile,
    Significance,
    ViewCall,
    WeightsEntries,
)
from memkern.audit.taps.modules import named_layers
from memkern.audit.taps.transformer_blocks import Block, find_blocks


def make_plan(job: Job, images: CheckedImages, weights: WeightsEntries, size: tuple[int, int]) -> Plan:
    """Makes the plan of an audit: everything that decides its numbers.

    Args:
        job: What is measured.
        images: The images, and which are candidates.
        weights: Where the weights came from.
        size: Height and width of the views, pixels.

    Returns:
        The plan.
    """
    options, source, same = job.options, job.source, job.layers.same
    candidates = [name for name, flag in zip(source.ids, images.candidates, strict=True) if flag]
    blocks = find_blocks(list(named_layers(job.f)))
    return Plan(
        memkern=memkern.__version__,
        torch=torch.__version__,
        encoder=options.encoder,
        encoder_file=_code_digest(options.encoder),
        weights=weights.f.sha256,
        reference=None if weights.g is None else weights.g.sha256,
        data=list_digest([source.digest, *source.ids]),
        n_images=len(source),
        labels=None if source.labels is None else list_digest(source.labels),
        candidates=list_digest(candidates) if candidates else None,
        views=options.views,
        transform=options.spec(),
        size=size,
        pairs=options.pairs,
        normalize=options.normalize,
        seed=options.seed,
        batch_size=job.batch_size,
        shard_size=options.shard_size,
        median=options.median,
        precision=options.precision,
        device=options.torch_device().type,
        allow_nan=options.allow_nan,
        layers=tuple(
            LayerPlan(hook_point.name, hook_point.units, len(source), tuple(hook_point.shape))
            for hook_point in job.layers.hook_points
        ),
        output=job.layers.output,
        blocks=tuple(Block(*[same.get(name, name) for name in block]) for block in blocks),
    )


def _code_digest(encoder: str) -> str | None:
    code = parse(encoder, ("py",))
    return sha256(Path(code.name.rpartition(":")[0])) if code.prefix == "py" else None


def make_about(job: Job, images: CheckedImages, weights: WeightsEntries, plan: Plan) -> About:
    """Collects what the manifest says besides the plan when an audit begins."""
    options, source = job.options, job.source
    return About(
        versions={
            "memkern": memkern.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        encoder=options.encoder,
        reference=None if job.g is None else options.reference,
        weights=weights,
        data=DataEntry(
            source=source.name,
            n_images=len(source),
            n_listed=images.n_listed,
            list_sha256=plan.data,
            classes=None if source.labels is None else tuple(source.classes or ()),
            skipped=tuple(images.skipped),
            repeated=source.repeated,
            duplicates=tuple(images.duplicates),
        ),
        candidates=None if plan.candidates is None else CandidatesEntry(sum(images.candidates), plan.candidates),
        views=job.views,
        options={name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        device=str(options.torch_device()),
        precision=options.precision,
        backends=tuple(asdict(info) for info in memkern.backends()),
    )


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
