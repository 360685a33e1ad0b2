"""The arguments of `memkern audit` and `memkern merge`, and what they do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from memkern._util.optional_imports import require
from memkern.audit import pipeline as run
from memkern.audit.options import PRECISIONS, Options
from memkern.audit.process import set_up_process
from memkern.audit.report import terminal as summary

EXPORTS = ("mat", "fiftyone")


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `memkern audit`; each is a field of `Options`, where it is documented."""
    parser.add_argument("encoder", metavar="ENCODER", help="timm:NAME, torchvision:NAME, lightly:NAME, hf:CONFIG_DIR, "
                        "memkern:NAME or py:FILE.py:FUNCTION, with ?key=value&… for the constructor")  # fmt: skip
    parser.add_argument("--weights", required=True, metavar="F", help="weights of f, trained with the candidates")
    parser.add_argument("--reference", metavar="G", help="weights of g, trained without them; without it UnitMem and "
                        "ClassMem only")  # fmt: skip
    parser.add_argument("--data", required=True, help="folder, list, HDF5, parquet, .npy or .npz file, saved data set, "
                        "or torchvision:NAME?root=DIR")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the results")
    parser.add_argument("--candidates", metavar="IDS", help="file with one id a line, .npy, or START:STOP")
    parser.add_argument("--labels", default="auto", help="auto, none, folder, or a file (%(default)s)")
    views = parser.add_argument_group("views")
    views.add_argument("--views", type=int, default=10, metavar="K", help="views of each image (%(default)s)")
    views.add_argument("--transform", default="simclr", metavar="NAME", help="a preset or a .json file (%(default)s)")
    views.add_argument("--size", type=int, metavar="PX", help="height and width of a view")
    views.add_argument("--mean", type=_numbers, help="mean of each channel, 0.5,0.5,0.5 say; default: the transform's")
    views.add_argument("--std", type=_numbers, help="standard deviation of each channel")
    views.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the views (%(default)s)")
    measure = parser.add_argument_group("measurement")
    measure.add_argument("--layers", default="*", metavar="GLOB", help="names or globs separated by commas, "
                         "re:REGEX, or sublayers (%(default)s)")  # fmt: skip
    measure.add_argument("--output", metavar="LAYER", help="where SSLMem is measured; default: the encoder's output")
    measure.add_argument("--pairs", choices=("all", "anchor"), default="all", help="pairs of views (%(default)s)")
    measure.add_argument("--no-normalize", dest="normalize", action="store_false", help="keep lengths in distances")
    measure.add_argument("--median", action="store_true", help="UnitMem against the median of the other images; "
                         "keeps a number per image and unit")  # fmt: skip
    measure.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the encoders (%(default)s)")
    work = parser.add_argument_group("work")
    work.add_argument(
        "--batch-size", type=int, metavar="B", help="images per forward pass; default: by the size of a view"
    )
    work.add_argument("--shard-size", type=int, default=1024, metavar="M", help="images per shard (%(default)s)")
    work.add_argument("--workers", type=int, default=2, help="threads that load images (%(default)s)")
    work.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1, … (%(default)s)")
    work.add_argument("--resume", action="store_true", help="go on from what a stopped run left in RUN")
    work.add_argument("--shard", type=_part, metavar="i/n", help="do the i-th of n parts; see `memkern merge`")
    work.add_argument("--dry-run", action="store_true", help="list the layers, estimate time and memory, write nothing")
    work.add_argument("--skip-corrupt", action="store_true", help="leave out images that cannot be read")
    work.add_argument("--no-duplicates", dest="duplicates", action="store_false", help="do not look for copies")
    work.add_argument("--allow-nan", action="store_true", help="go on where an encoder gives NaN")
    results = parser.add_argument_group("results")
    results.add_argument("--no-images", dest="images", action="store_false", help="keep pictures out of the results")
    _add_exports(results)


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `memkern merge`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of the parts")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the results")
    _add_exports(parser)


def _add_exports(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--mat", action="store_true", help="write MATLAB files too")
    parser.add_argument("--fiftyone", action="store_true", help="write a FiftyOne-style JSON file too")


def audit(args: argparse.Namespace) -> None:
    """Runs `memkern audit`."""
    set_up_process()  # which is the audit's own
    console = _console()
    given = vars(args)
    options = Options(**{name: given[name] for name in Options.__dataclass_fields__})
    progress = summary.Progress(console)
    say = _say(console)
    if args.dry_run:
        summary.show_plan(run.dry_run(options, say=say, progress=progress), console)
        return
    made = run.run_audit(options, say=say, progress=progress)
    if made is not None:
        summary.show_run(made, console)
        summary.show_done(made, console)


def merge(args: argparse.Namespace) -> None:
    """Runs `memkern merge`."""
    made = run.merge_runs(args.runs, args.out, mat=args.mat, fiftyone=args.fiftyone)
    console = _console()
    summary.show_run(made, console)
    summary.show_done(made, console)
    if not (made.folder / "thumbs").exists():
        _say(console)(
            "The report has no pictures; a part's command with --out RUN --resume, without --shard, adds them."
        )


def _console() -> Any:
    console = require("rich.console", "rich").Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a file's lines are as long as it takes: rich folds what is wider than 80
    return console


def _say(console: Any) -> Any:
    return lambda text: console.print(text, markup=False)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _part(text: str) -> tuple[int, int]:
    first, slash, last = text.partition("/")
    if not slash:
        raise ValueError
    return int(first), int(last)
