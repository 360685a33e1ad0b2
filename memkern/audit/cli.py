"""Arguments of `memkern audit` and `memkern merge`, and what they do."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from memkern._util.optional_imports import require
from memkern._util.options import add_options, add_switches
from memkern._util.text import printable
from memkern.audit import pipeline
from memkern.audit.options import Options
from memkern.audit.process import set_up_process
from memkern.audit.report import terminal
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
    set_up_process()  # this process is the audit's own
    console = _console()
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    progress = terminal.Progress(console)
    log = _log(console)
    if args.dry_run:
        terminal.show_plan(pipeline.dry_run(options, log=log, progress=progress), console)
        return
    made = pipeline.run_audit(options, log=log, progress=progress)
    if made is not None:
        terminal.show_run(made, console)
        terminal.show_done(made, console)


def merge(args: argparse.Namespace) -> None:
    """Runs `memkern merge`."""
    made = pipeline.merge_runs(args.runs, args.out, exports=args.exports)
    console = _console()
    terminal.show_run(made, console)
    terminal.show_done(made, console)
    if not (made.folder / "thumbs").exists():
        _log(console)(
            "The report has no pictures; a part's command with --out RUN --resume, without --shard, adds them."
        )


def _console() -> Console:
    console = cast("Console", require("rich.console", "rich").Console(highlight=False, soft_wrap=True))
    if not console.is_terminal:
        console.width = 200  # no terminal, a file or pipe: rich would fold lines of more than 80 characters
    return console


def _log(console: Console) -> Callable[[str], None]:
    # Names of foreign files may hold codes that a terminal obeys.
    return lambda text: console.print("\n".join(map(printable, text.split("\n"))), markup=False)
