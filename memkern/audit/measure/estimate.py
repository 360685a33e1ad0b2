"""Estimate of an audit's time and memory, from one batch of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from memkern.audit.measure.prepare import Prepared
from memkern.audit.measure.shard import PHASES, measure_shard
from memkern.audit.process import most_memory
from memkern.audit.run_folder.schema import Plan


@dataclass(frozen=True)
class Estimate:
    """Estimate of what an audit takes, from one batch.

    Attributes:
        plan: What would be measured.
        seconds: Phase of the work -> seconds.
        peak_bytes: Peak memory so far: of the GPU, or of this process.
        row_bytes: Size of what is kept of every image; while the audit runs it is that of all layers.
        median_bytes: Size of what the median keeps on disk while the audit runs; 0 without it.
    """

    plan: Plan
    seconds: dict[str, float]
    peak_bytes: int
    row_bytes: int
    median_bytes: int


def estimate(ready: Prepared) -> Estimate:
    """Measures one batch twice, writes nothing, and scales the second pass to all images."""
    job = ready.job
    few = min(job.batch_size, len(job.source))
    sample = replace(job, options=replace(job.options, shard_size=few))
    plan, together, count = ready.begun.plan, job.encoders.turns[0], len(job.encoders)
    with job.encoders.on_device(together) as modules:
        measure_shard(sample, 0, modules)  # the first pass makes plans and buffers
        found = measure_shard(sample, 0, modules)
    seconds = torch.stack([each.seconds for each in found.values()]).sum(0) * (plan.n_images / few)
    # The others take as long, and images are loaded and views drawn for each turn.
    times = {
        phase: len(job.encoders.turns) if phase in ("load", "views") else count / len(together) for phase in PHASES
    }
    n_units = sum(sum(each.units) for each in plan.encoders)
    return Estimate(
        plan=plan,
        seconds={phase: value * times[phase] for phase, value in zip(PHASES, seconds.tolist(), strict=True)},
        peak_bytes=peak_memory(job.options.torch_device()),
        row_bytes=4 * plan.n_images * (len(plan.layers) if plan.keep == "all" else 1) * count,
        median_bytes=4 * plan.n_images * n_units if job.options.median else 0,
    )


def peak_memory(device: torch.device) -> int:
    """Returns the most memory in use so far, bytes: of the GPU, or of this process."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else most_memory()
