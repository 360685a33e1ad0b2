"""Pipeline of an audit, from its options to its RUN folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from memkern._util.optional_imports import require
from memkern._util.remote import address_of, is_remote, upload, working_copy
from memkern.audit.data.source import Source
from memkern.audit.measure.begun import check_out, clear_disk_errors
from memkern.audit.measure.encoders import InMemory
from memkern.audit.measure.estimate import Estimate, estimate
from memkern.audit.measure.finalize import finalize, tidy
from memkern.audit.measure.lock import locked
from memkern.audit.measure.prepare import Log, Prepared, prepare
from memkern.audit.measure.process_group import ProcessGroup, join_group, leave_group
from memkern.audit.measure.run_shards import begin, measure_shards
from memkern.audit.options import Options
from memkern.audit.report import write_report
from memkern.audit.report.terminal import Progress, shown
from memkern.audit.report.thumbnails import write_thumbs
from memkern.audit.run_folder.reader import Run, read_run
from memkern.audit.run_folder.schema import MANIFEST
from memkern.audit.run_folder.write_exports import chosen, require_packages, write_exports
from memkern.audit.taps.rng import kept_rng


def _to_logger(text: str) -> None:
    """Tells the logger "memkern", which shows it where the program asks for level INFO."""
    logging.getLogger("memkern").info("%s", text)


def _silent(text: str) -> None:
    """Says nothing."""


@kept_rng()  # encoders are built, and images drawn, with the generators of the whole process
def run_audit(
    options: Options,
    *,
    encoders: InMemory | None = None,
    source: Source | None = None,
    log: Log = _to_logger,
    progress: Progress | bool | None = None,
) -> Run | None:
    """Measures an encoder and writes the RUN folder `options.out`; to a remote address it is copied when complete.

    Args:
        options: What to measure, on what, and how.
        encoders: f, or several, and g, or several (`None` without a reference), in place of files.
        source: The images, in place of those that the options name.
        log: Told what the user should know; default: the logger "memkern", at level INFO.
        progress: Shows how far it is; `True`: bars on a terminal or in a notebook.

    Returns:
        The run; `None` with `options.shard`, and in processes of torchrun other than the first.

    Raises:
        ValueError: If an option, file or shape does not fit, or `out` holds another audit.
        RuntimeError: If a layer gives NaN or does not run, or another process failed.
        OSError: If a file cannot be written; finished shards are kept.
    """
    progress = shown(progress)
    if is_remote(options.out):
        address = address_of(options.out)
        local = replace(options, out=working_copy(address, MANIFEST))
        log(f"Results are made in {local.out} and copied to {address} when they are complete.")
        run = run_audit(local, encoders=encoders, source=source, log=log, progress=progress)
        if run is not None:
            upload(run.folder, address, last=(MANIFEST,))
        return run
    _require_packages(options.images, options.exports)
    shared = options.shard is not None
    check_out(options.out, resume=options.resume, shared=shared)
    group = join_group()
    options = replace(options, device=group.device(options.device))
    if group.rank:  # the first process speaks for all
        log, progress = _silent, Progress(None)
    try:
        with ExitStack() as stack:
            first = group.rank == 0
            holds = first and options.out.is_dir()
            if holds:  # another command works on it: said at once
                stack.enter_context(locked(options.out, options.shard, log))
            with progress.task("look", None) as step:
                ready = prepare(options, encoders=encoders, source=source, group=group, log=log, on_image=step)

            def start() -> None:
                if not first:
                    return
                if not holds:  # mistakes leave no folder behind
                    stack.enter_context(locked(options.out, options.shard, log))
                    check_out(options.out, resume=options.resume, shared=shared)  # another command was faster
                begin(ready)

            group.run_together(start)
            if (options.out / MANIFEST).exists():
                log(f"{options.out} is complete already.")
            else:
                measure_shards(ready, group, log=log, task=progress.task)
            run = _finish(ready, group, log)
    except BaseException as error:
        leave_group(group, error)
        raise
    leave_group(group)
    return run


def _finish(ready: Prepared, group: ProcessGroup, log: Log) -> Run | None:
    """Finalizes what is measured, unless other parts of it are missing; again if a process was killed meanwhile."""
    options = ready.job.options
    complete = (options.out / MANIFEST).exists()
    if options.shard is not None and not complete:
        part, parts = options.shard
        exports = "".join(f" {export.flag}" for export in chosen(options.exports))
        log(f"Part {part} of {parts} is done; `memkern merge RUN… --out RUN{exports}` puts the parts together.")
        return None
    if group.rank:
        return None
    if complete:
        tidy(options.out, ready.begun.plan)  # the process that finished it may have been killed before
    run = read_run(options.out) if complete else finalize([options.out], options.out)
    with clear_disk_errors(run.folder):
        if options.images:
            write_thumbs(run, ready.job)
        write_report(run, images=options.images)
        write_exports(run, options.exports)
    return run


def _require_packages(images: bool, exports: Sequence[str]) -> None:
    """Requires the packages that the end of the work needs, at its beginning."""
    for module, package in (
        ("pyarrow.parquet", "pyarrow"), ("safetensors.torch", "safetensors"), ("jinja2", "jinja2"),
        ("scipy.stats", "scipy"),
    ):  # fmt: skip
        require(module, package)
    if images:
        require("PIL.Image", "pillow")
    require_packages(exports)


def merge_runs(folders: Sequence[Path], out: Path, *, exports: Sequence[str] = (), log: Log = _to_logger) -> Run:
    """Puts the parts of an audit together that were done with `--shard i/n`.

    Neither the encoder nor the images are needed, and so no pictures are made; `run_audit` adds them to a complete
    RUN folder.

    Args:
        folders: The RUN folders of the parts.
        out: The RUN folder to write; may be one of the `folders`.
        exports: Names of formats of other tools to write too: "mat", "fiftyone".
        log: Told what the user should know; default: the logger "memkern", at level INFO.

    Returns:
        The run, the same bits as of one process.

    Raises:
        PlanError: If the folders are not parts of one audit, or shards are missing.
        ImportError: If a package is missing.
    """
    _require_packages(images=False, exports=exports)
    if out not in folders:
        check_out(out, resume=False, shared=False)
    with locked(out, None, log):
        if out not in folders:
            check_out(out, resume=False, shared=False)  # another command was faster
        run = finalize(list(folders), out)
        with clear_disk_errors(out):
            write_report(run)
            write_exports(run, exports)
    return run


@kept_rng()
def dry_run(
    options: Options,
    *,
    encoders: InMemory | None = None,
    source: Source | None = None,
    log: Log = _to_logger,
    progress: Progress | bool | None = None,
) -> Estimate:
    """Prepares an audit, measures one batch, and estimates the rest; writes nothing.

    Args:
        options: What to measure, on what, and how.
        encoders: f, or several, and g, or several (`None` without a reference), in place of files.
        source: The images, in place of those that the options name.
        log: Told what the user should know; default: the logger "memkern", at level INFO.
        progress: Shows how far it is; `True`: bars on a terminal or in a notebook.

    Returns:
        The plan, and the time and memory that the audit will take.

    Raises:
        ValueError: If an option, file or shape does not fit.
    """
    progress = shown(progress)
    with progress.task("look", None) as step:
        ready = prepare(options, encoders=encoders, source=source, log=log, on_image=step)
    return estimate(ready)
