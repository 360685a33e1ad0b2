"""Measures the shards of an audit that are not done yet, each process its share, and keeps them in the RUN folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from memkern.audit.measure import shard_files
from memkern.audit.measure.finalize import IMAGES, write_images
from memkern.audit.measure.job import Job
from memkern.audit.measure.prepare import Log, Prepared
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.measure.shard import PHASES, measure_shard
from memkern.errors import ProcessError

Task = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Display of progress: name of a work, number of its images -> a block in which a function counts finished images."""


def begin(ready: Prepared) -> None:
    """Writes the plan and the list of images, or checks that those of an earlier process are the same.

    Args:
        ready: The audit that can start; its options name the RUN folder.

    Raises:
        PlanError: If the RUN folder holds another audit.
        OSError: If a file cannot be written.
    """
    out = ready.job.options.out
    complete = shard_files.begin(out, ready.begun)
    if ready.job.options.shard is None:
        shard_files.clean(out)
    if not complete and not (out / IMAGES).exists():
        write_images(out, ready.images.columns)


def measure_shards(job: Job, group: ProcessGroup, *, log: Log, task: Task) -> None:
    """Measures the shards of this part that are not done yet; all processes must call it.

    Args:
        job: What to measure, and with `options.shard` which part of the shards.
        group: The processes; each takes every `group.size`-th shard.
        log: Told how many shards are done already.
        task: Shows how far it is.

    Raises:
        ProcessError: If another process failed, or writes to a folder that this one does not see.
    """
    out = job.options.out
    part, parts = job.options.shard or (1, 1)
    wanted = [number for number in range(job.n_shards) if number % parts == part - 1]
    # The first process's list, made before any begins: one that looked later would see what others have done since.
    todo = sorted(set(wanted) - set(group.gather(shard_files.done(out))[0]))
    if len(todo) < len(wanted):
        log(f"{len(wanted) - len(todo)} of {len(wanted)} shards are done already.")
    group.run_together(lambda: _measure(job, todo[group.rank :: group.size], task))
    missing = sorted(set(wanted) - set(shard_files.done(out)))
    if missing and group.size > 1 and group.rank == 0:
        raise ProcessError(f"Expected --out on a file system that all processes see; shards {missing} are not in {out}")


def _measure(job: Job, numbers: list[int], task: Task) -> None:
    writing = 0.0
    with task("measure", sum(len(job.rows(number)) for number in numbers)) as step:
        for number in numbers:
            shard = measure_shard(job, number, step)
            shard.seconds[PHASES.index("write")] = writing  # of the shard before: this one is not written yet
            start = time.perf_counter()
            shard_files.write_shard(job.options.out, number, shard)
            writing = time.perf_counter() - start
