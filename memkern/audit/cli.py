"""Arguments of `memkern audit` and `memkern merge`, and what they do."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from memkern._util.optional_imports import require
from memkern._util.options import add_options, add_switches
from memkern.audit import pipeline as run
from memkern.audit.options import Options
from memkern.audit.process import set_up_process
from memkern.audit.report import terminal as summary
from memkern.audit.run_folder.write_exports import export_summaries

if TYPE_CHECKING:
    from rich.console import Console


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `memkern audit`: the fields of `Options`, and `--dry-run`."""
    groups = add_options(parser, Options)
    dry = "list the layers, estimate time and memory, write nothing"
    groups["work"].add_argument("--dry-run", action="store_true", help=dry)


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `memkern merge`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of the parts")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the results")
    add_switches(parser, "exports", export_summaries())


def audit(args: argparse.Namespace) -> None:
    """Runs `memkern audit`."""
    set_up_process()  # which is the audit's own
    console = _console()
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    progress = summary.Progress(console)
    say = _say(console)
    if args.dry_run:
        summary.show_plan(run.dry_run(options, log=say, progress=progress), console)
        return
    made = run.run_audit(options, log=say, progress=progress)
    if made is not None:
        summary.show_run(made, console)
        summary.show_done(made, console)


def merge(args: argparse.Namespace) -> None:
    """Runs `memkern merge`."""
    made = run.merge_runs(args.runs, args.out, exports=args.exports)
    console = _console()
    summary.show_run(made, console)
    summary.show_done(made, console)
    if not (made.folder / "thumbs").exists():
        _say(console)(
            "The report has no pictures; a part's command with --out RUN --resume, without --shard, adds them."
        )


def _console() -> Console:
    console = cast("Console", require("rich.console", "rich").Console(highlight=False, soft_wrap=True))
    if not console.is_terminal:
        console.width = 200  # a file's lines are as long as it takes: rich folds what is wider than 80
    return console


def _say(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, markup=False)
