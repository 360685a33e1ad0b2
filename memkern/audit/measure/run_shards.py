"""Reads the encoders of an audit on its shards: what is not done yet, each process its share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from memkern.audit.measure import begun, reading_files
from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.measure.job import Job, share_of
from memkern.audit.measure.prepare import Log, Prepared
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.measure.shard import PHASES, measure_shard
from memkern.audit.run_folder.schema import Plan
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
    begun.begin(out, ready.begun, ready.images.columns)
    if ready.job.options.shard is None:
        reading_files.clean(out)


def measure_shards(ready: Prepared, group: ProcessGroup, *, log: Log, task: Task) -> None:
    """Reads the encoders on the shards of this part that are not done yet; all processes must call it.

    Args:
        ready: What to measure, and with `options.shard` which part of the work.
        group: The processes; each takes its share.
        log: Told how much is done already.
        task: Shows how far it is.

    Raises:
        ProcessError: If another process failed, or writes to a folder that this one does not see.
    """
    job, plan = ready.job, ready.begun.plan
    part, parts = job.options.shard or (1, 1)
    wanted = share_of(range(job.n_shards), job.encoders.names, part - 1, parts)
    # The first process's list, made before any begins: one that looked later would see what others have done since.
    todo = _without(wanted, group.gather(_done(job, plan))[0])
    if len(todo) < len(wanted):
        log(f"{len(wanted) - len(todo)} of {len(wanted)} shards are done already.")
    share = share_of(list(todo), job.encoders.names, group.rank, group.size)
    own = {shard: [name for name in names if name in todo[shard]] for shard, names in share.items()}
    group.run_together(lambda: _measure(job, plan, own, task))
    missing = sorted(_without(wanted, _done(job, plan)))
    if missing and group.size > 1 and group.rank == 0:
        raise ProcessError(
            f"Expected --out on a file system that all processes see; shards {missing} are not in {job.options.out}"
        )


def _done(job: Job, plan: Plan) -> dict[str, set[int]]:
    """The shards on which each encoder has been read."""
    return {each.name: set(reading_files.done(job.options.out, plan, each)) for each in plan.encoders}


def _without(wanted: Mapping[int, Sequence[str]], done: Mapping[str, set[int]]) -> dict[int, list[str]]:
    """Shard -> encoders that are not read on it yet; shards that are done are left out."""
    left = {shard: [name for name in names if shard not in done[name]] for shard, names in wanted.items()}
    return {shard: names for shard, names in left.items() if names}


def _measure(job: Job, plan: Plan, own: Mapping[int, Sequence[str]], task: Task) -> None:
    """Reads encoders on shards; of encoders that do not fit in memory together, some after the others on all shards."""
    encoders = job.encoders
    turns = []
    for turn in encoders.turns:
        names = {encoders.names[place] for place in turn}
        work = {number: [name for name in on_it if name in names] for number, on_it in own.items()}
        turns.append({number: on_it for number, on_it in work.items() if on_it})
    with task("measure", sum(len(job.rows(number)) for work in turns for number in work)) as step:
        writing = 0.0
        for work in turns:
            needed = {name for on_it in work.values() for name in on_it}
            with encoders.on_device([place for place, name in enumerate(encoders.names) if name in needed]) as modules:
                for number, on_it in work.items():
                    found = measure_shard(job, number, {name: modules[name] for name in on_it}, step)
                    found[on_it[0]].seconds[PHASES.index("write")] = writing  # of the shard before
                    start = time.perf_counter()
                    _write(job, plan, number, found)
                    writing = time.perf_counter() - start


def _write(job: Job, plan: Plan, number: int, found: Mapping[str, EncoderReadings]) -> None:
    out = job.options.out
    with begun.clear_disk_errors(out):
        for each in plan.encoders:
            if each.name in found:
                reading_files.write_reading(out, each, number, found[each.name])
