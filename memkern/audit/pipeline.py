"""An audit from its options to its RUN folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memkern._util.optional_imports import require
from memkern.audit.data.source import Source
from memkern.audit.measure import finalize as finish
from memkern.audit.measure import shard_files as shards
from memkern.audit.measure.prepare import Prepared, Say, prepare
from memkern.audit.measure.process_group import Team, join, leave
from memkern.audit.measure.shard import PARTS, do_shard
from memkern.audit.options import Options
from memkern.audit.process import most_memory
from memkern.audit.report import terminal as summary
from memkern.audit.report import thumbnails as thumbs
from memkern.audit.report import write_report
from memkern.audit.run_folder import export, store


def _silent(text: str) -> None:
    """Says nothing."""


def run_audit(
    options: Options,
    *,
    encoders: tuple[nn.Module, nn.Module | None] | None = None,
    source: Source | None = None,
    say: Say = _silent,
    progress: summary.Progress | None = None,
) -> store.Run | None:
    """Measures an encoder and writes the RUN folder `options.out`.

    Args:
        options: What to measure, on what, and how.
        encoders: f and g (`None` without a reference), in place of the files that the options name.
        source: The images, in place of those that the options name.
        say: Told what the user should know.
        progress: Shows how far it is.

    Returns:
        The run; `None` with `options.shard`, and in processes of torchrun other than the first.

    Raises:
        ValueError: If an option, file or shape does not fit, or `out` holds another audit.
        RuntimeError: If a layer gives NaN or does not run, or another process failed.
        OSError: If a file cannot be written; finished shards are kept.
    """
    progress = progress or summary.Progress(None)
    _packages(options.images, options.mat)
    shards.check_out(options.out, resume=options.resume, shared=options.shard is not None)
    team = join()
    options = replace(options, device=team.device(options.device))
    if team.rank:  # the first process speaks for all
        say, progress = _silent, summary.Progress(None)
    try:
        with progress.task("look", None) as step:
            ready = prepare(options, encoders=encoders, source=source, team=team, say=say, on_image=step)
        return _run(ready, team, say, progress)
    finally:
        leave(team)


def _run(ready: Prepared, team: Team, say: Say, progress: summary.Progress) -> store.Run | None:
    options, job = ready.job.options, ready.job
    out = options.out
    _together(team, lambda: _begin(ready) if team.rank == 0 else None)
    if (out / shards.MANIFEST).exists():
        say(f"{out} is complete already.")
        if team.rank == 0:
            finish.tidy(out)  # the process that finished it may have been killed before
        return _with_extras(store.read_run(out), ready) if team.rank == 0 else None
    first, parts = options.shard or (1, 1)
    mine = [number for number in range(job.n_shards) if number % parts == first - 1]
    # The first process's list, made before any begins: one that looked later would see what others have done since.
    todo = sorted(set(mine) - set(team.gather(shards.done(out))[0]))
    if len(todo) < len(mine):
        say(f"{len(mine) - len(todo)} of {len(mine)} shards are done already.")

    def work() -> None:
        share = todo[team.rank :: team.size]
        writing = 0.0
        with progress.task("measure", sum(len(job.rows(number)) for number in share)) as step:
            for number in share:
                shard = do_shard(job, number, step)
                shard.seconds[PARTS.index("write")] = writing  # of the shard before: this one is not written yet
                start = time.perf_counter()
                shards.write_shard(out, number, shard)
                writing = time.perf_counter() - start

    _together(team, work)
    if options.shard is not None:
        exports = (" --mat" if options.mat else "") + (" --fiftyone" if options.fiftyone else "")
        say(f"Part {first} of {parts} is done; `memkern merge RUN… --out RUN{exports}` puts the parts together.")
        return None
    if team.rank:
        return None
    missing = sorted(set(range(job.n_shards)) - set(shards.done(out)))
    if missing and team.size > 1:
        raise RuntimeError(f"Expected --out on a file system that all processes see; shards {missing} are not in {out}")
    return _with_extras(finish.finish([out], out), ready)


def _with_extras(run: store.Run, ready: Prepared) -> store.Run:
    """Writes what is made from a finished run; again if a process was killed between."""
    options = ready.job.options
    with shards.clear_disk_errors(run.folder):
        if options.images:
            thumbs.write_thumbs(run, ready.job)
        write_report(run, images=options.images)
        _export(run, options.mat, options.fiftyone)
    return run


def _export(run: store.Run, mat: bool, fiftyone: bool) -> None:
    if mat:
        export.write_mat(run)
    if fiftyone:
        export.write_fiftyone(run)


def _packages(images: bool, mat: bool) -> None:
    """Requires the packages that the end of the work needs, at its beginning."""
    for module, package in (
        ("pyarrow.parquet", "pyarrow"), ("safetensors.torch", "safetensors"), ("jinja2", "jinja2"),
        ("scipy.stats", "scipy"),
    ):  # fmt: skip
        require(module, package)
    if images:
        require("PIL.Image", "pillow")
    if mat:
        require("scipy.io", "scipy")
        require("h5py", "h5py", extra="")


def _begin(ready: Prepared) -> None:
    out = ready.job.options.out
    complete = shards.begin(out, ready.plan, ready.about)
    if ready.job.options.shard is None:
        shards.clean(out)
    if not complete and not (out / finish.IMAGES).exists():
        finish.write_images(out, ready.images)


def _together(team: Team, work: Callable[[], None]) -> None:
    """Does a process's share and waits for the others; an error in one is an error in all, not a wait without end."""
    error: BaseException | None = None
    try:
        work()
    except Exception as raised:
        error = raised
    failed = [(rank, text) for rank, text in enumerate(team.gather(None if error is None else str(error))) if text]
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(f"Process {failed[0][0]} of {team.size} failed: {failed[0][1]}")


def merge_runs(folders: Sequence[Path], out: Path, *, mat: bool = False, fiftyone: bool = False) -> store.Run:
    """Puts the parts of an audit together that were done with `--shard i/n`.

    It needs neither the encoder nor the images, and so makes no pictures; `run_audit` adds them to what is complete.

    Args:
        folders: Their RUN folders.
        out: The RUN folder to write; may be one of them.
        mat: Whether to write MATLAB files too.
        fiftyone: Whether to write a FiftyOne-style JSON file too.

    Returns:
        The run, the same bits as of one process.

    Raises:
        PlanError: If they are not parts of one audit, or shards are missing.
        ImportError: If a package is missing.
    """
    _packages(images=False, mat=mat)
    if out not in folders:
        shards.check_out(out, resume=False, shared=False)
    run = finish.finish(list(folders), out)
    with shards.clear_disk_errors(out):
        write_report(run)
        _export(run, mat, fiftyone)
    return run


def dry_run(
    options: Options,
    *,
    encoders: tuple[nn.Module, nn.Module | None] | None = None,
    source: Source | None = None,
    say: Say = _silent,
    progress: summary.Progress | None = None,
) -> dict[str, Any]:
    """Prepares an audit, measures one batch, and estimates the rest; writes nothing.

    Args:
        options: As for `run_audit`.
        encoders: As for `run_audit`.
        source: As for `run_audit`.
        say: As for `run_audit`.
        progress: As for `run_audit`.

    Returns:
        The plan, and under "estimate" seconds of each part, peak memory so far, and what grows with the images, bytes.

    Raises:
        ValueError: As for `run_audit`.
    """
    progress = progress or summary.Progress(None)
    with progress.task("look", None) as step:
        ready = prepare(options, encoders=encoders, source=source, say=say, on_image=step)
    few = min(ready.job.batch_size, len(ready.job.source))
    sample = replace(ready.job, options=replace(options, shard_size=few))
    do_shard(sample, 0)  # the first pass makes plans and buffers
    shard = do_shard(sample, 0)
    images = len(ready.job.source)
    units = sum(site.units for site in ready.job.layers.sites)
    rows = 4 * images * len(ready.job.layers.sites) * (2 if ready.job.g is not None else 1)
    estimate = {
        "seconds": {part: float(value) * images / few for part, value in zip(PARTS, shard.seconds, strict=True)},
        "peak_bytes": peak_memory(options.torch_device()),
        "row_bytes": rows,
        "median_bytes": 4 * images * units if options.median else 0,
    }
    return {**ready.plan, "estimate": estimate}


def peak_memory(device: torch.device) -> int:
    """Most memory in use so far, bytes: of the GPU, or of this process."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else most_memory()
