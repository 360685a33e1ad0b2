"""Command line of memkern: parses and calls. The commands' work is done in `memkern.audit` and `memkern.lab`."""

from __future__ import annotations

import argparse
import json
import platform
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import FrameType

from memkern._util.arguments import seed, whole_number
from memkern._util.optional_imports import require
from memkern._util.streams import safe_streams
from memkern._util.text import did_you_mean
from memkern.errors import MemkernError

BUG = 70
"""Exit code after an error that memkern did not foresee; sysexits.h calls it EX_SOFTWARE."""

FILES = ("weights", "reference", "data", "groups", "encoders", "candidates", "labels", "transform")
"""Arguments that are files, or may be, but are read as text; a shell completes them to names of files."""

EXTRAS = ("audit", "lab", "ssl", "dp", "metrics")
"""The extras of memkern whose packages `memkern doctor` lists: all but those of its developers."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments after the program name; by default those of the process.

    Returns:
        The exit code: 0 complete, 1 an error that the user can mend (one line on stderr), 70 a bug (a traceback and
        a line that asks for a report on stderr), 130 interrupted.

    Raises:
        SystemExit: With code 2 on wrong usage, with code 0 after `--help` and `--version`.
        MemkernError: With `--debug`, the error that the user can mend; so do OSError and errors of too little memory.
    """
    with safe_streams():
        parser = _parser()
        args, left = parser.parse_known_args(argv)
        if left:
            flags = {flag for each in _actions(parser, args.command) for flag in each.option_strings}
            near = did_you_mean(left[0].partition("=")[0], sorted(flags))
            parser.error(f"unrecognized arguments: {' '.join(left)}{near}")
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Runs a command; its exit code."""
    stopped: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        """Interrupts the work, so that open files are cleaned up."""
        stopped.append(signum)
        raise KeyboardInterrupt

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as of what runs in the background
    numbers = (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        COMMANDS[args.command](args)
    except (KeyboardInterrupt, Exception) as error:
        if not stopped and not isinstance(error, KeyboardInterrupt):
            return _failed(args, error)
        # Compiled code turns an interrupt that reaches it into errors of other kinds.
        begun = args.command == "audit" and (args.out / "plan.json").exists()
        resumable = "; go on with --resume" if begun else ""
        print(f"memkern: interrupted{resumable}", file=sys.stderr)
        return 130
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _failed(args: argparse.Namespace, error: Exception) -> int:
    """Says why a command failed; its exit code."""
    sentence = _sentence(error, "batch_size" in args)
    if sentence is None:
        traceback.print_exception(error)
        print(REPORT, file=sys.stderr)
        return BUG
    if args.debug:
        raise error
    print(f"memkern: error: {sentence}", file=sys.stderr)
    return 1


REPORT = (
    "memkern: memkern did not foresee this error; unless the last lines above are your own code, please report it as a "
    "bug, with all of these lines and the command"
)


def _sentence(error: Exception, batches: bool) -> str | None:
    """Writes one line for an error that the user can mend; `None` for a bug."""
    from memkern._util.devices import is_out_of_memory

    message = " ".join(str(error).split()) or type(error).__name__
    if is_out_of_memory(error):
        fix = "; a smaller --batch-size takes less" if batches else ""
        return f"Out of memory: {message[:300]}{fix}"
    return message if isinstance(error, (MemkernError, OSError)) else None


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(prog="memkern", description="Measure memorization in self-supervised encoders.")
    parser.add_argument("--version", action="version", version=_version("memkern"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", parents=[common], help="audit the encoders that ship with memkern")
    demo.add_argument("--out", type=Path, default=Path("memkern-demo"), help="folder of the results (%(default)s)")
    demo.add_argument("--seed", type=seed, default=0, help="seed of the views (%(default)s)")
    demo.add_argument("--family", type=Path, help="folder of `memkern lab family --design halves`, in place of them")
    from memkern.audit import cli as arguments
    from memkern.lab import cli as command

    arguments.add_audit(commands.add_parser("audit", parents=[common], help="measure an encoder on a folder of images"))
    arguments.add_merge(commands.add_parser("merge", parents=[common], help="put the parts of an audit together"))
    _add_compare(commands.add_parser("compare", parents=[common], help="compare two audits of the same images"))
    _add_advise(
        commands.add_parser("advise", parents=[common], help="name the layers to fine-tune or the units to prune")
    )
    made = commands.add_parser("report", parents=[common], help="write the report of an audit as one HTML file")
    made.add_argument("run", type=Path, metavar="RUN", help="folder of the audit")
    made.add_argument("--no-images", dest="images", action="store_false", help="leave all pictures out")
    made.add_argument("--out", type=Path, help="the file to write (default: RUN/report.html)")
    command.add_arguments(commands.add_parser("lab", help="train encoders, run the papers' experiments"), common)
    commands.add_parser("doctor", parents=[common], help="show versions and backends")
    completion = commands.add_parser("completion", parents=[common], help="print what makes a shell complete arguments")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    asks = "what the tests ask: does B memorize less than A, or more (%(default)s)"
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="folder of an audit")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="folder of another one")
    parser.add_argument("--alternative", choices=("less", "greater"), default="less", help=asks)
    parser.add_argument("--top", type=whole_number, help="how many of the images with the highest SSLMem to compare")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")


def _add_advise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of an audit")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--finetune", type=whole_number, metavar="N", help="the N layers that memorize most")
    which.add_argument("--prune", type=float, metavar="SHARE", help="this part of the units of each layer, by UnitMem")
    parser.add_argument("--layers", default="*", metavar="GLOBS", help="layers to choose from (%(default)s)")
    parser.add_argument("--encoder", default="", metavar="NAME", help="encoder whose units are pruned (the first)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")


def _demo(args: argparse.Namespace) -> None:
    from memkern.lab.demo import ASSETS, run_demo

    run_demo(args.out, seed=args.seed, family=args.family or ASSETS)


def _audit(args: argparse.Namespace) -> None:
    from memkern.audit import cli as arguments

    arguments.audit(args)


def _merge(args: argparse.Namespace) -> None:
    from memkern.audit import cli as arguments

    arguments.merge(args)


def _compare(args: argparse.Namespace) -> None:
    from memkern._util.files import write_json
    from memkern.audit.compare.comparison import compare

    comparison = compare(args.run_a, args.run_b, alternative=args.alternative, top=args.top, seed=args.seed)
    if args.out is not None:
        write_json(args.out, comparison.to_dict())
    print(json.dumps(comparison.to_dict(), indent=2) if args.json else comparison)


def _advise(args: argparse.Namespace) -> None:
    from memkern._util.files import write_json
    from memkern.audit import advise_layers, advise_units, read_run

    run = read_run(args.run)
    advice = (
        advise_layers(run, args.finetune, layers=args.layers)
        if args.finetune is not None
        else advise_units(run, args.prune, layers=args.layers, encoder=args.encoder)
    )
    if args.out is not None:
        write_json(args.out, advice.to_dict())
    print(json.dumps(advice.to_dict(), indent=2) if args.json else advice)


def _report(args: argparse.Namespace) -> None:
    from memkern.audit.report import write_report

    path = write_report(args.run, images=args.images, out=args.out)
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


def _doctor(args: argparse.Namespace) -> None:
    import numpy
    import torch

    import memkern

    print(f"memkern {memkern.__version__}")
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; numpy {numpy.__version__}")
    print(memkern.backends())
    for heading, packages in _optional_packages().items():
        print(f"{heading}: " + ", ".join(f"{name} {_version(name)}" for name in packages))


def _completion(args: argparse.Namespace) -> None:
    shtab = require("shtab", "shtab", extra="")
    parser = _parser()
    for action in _actions(parser):
        if action.type is Path or action.dest in FILES:
            vars(action)["complete"] = shtab.FILE  # where shtab looks for it
    print(shtab.complete(parser, args.shell))


def _actions(parser: argparse.ArgumentParser, command: str | None = None) -> Iterator[argparse.Action]:
    """Walks the arguments of all commands, or of one, and of those below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                if command in (None, name):
                    yield from _actions(below)


def _optional_packages() -> dict[str, list[str]]:
    """The packages of each extra, and those that kinds of encoders and of images need besides."""
    from memkern.audit.data.open import image_readers
    from memkern.audit.encoders.build import encoder_kinds

    try:
        listed = requires("memkern") or []
    except PackageNotFoundError:  # a source tree that was not installed
        listed = []
    found: dict[str, list[str]] = {f"memkern[{extra}]": [] for extra in EXTRAS}
    for line in listed:
        match = re.match(r"([\w.-]+).*\bextra == [\"'](\w+)", line)
        if match and match[2] in EXTRAS and match[1] != "memkern":
            found[f"memkern[{match[2]}]"].append(match[1])
    of_extras = {name for names in found.values() for name in names}
    needed = {kind.package for kind in encoder_kinds()} | {reader.package for reader in image_readers()}
    needed -= of_extras | {""}
    return {**{extra: names for extra, names in found.items() if names}, "encoders and images": sorted(needed)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _lab(args: argparse.Namespace) -> None:
    from memkern.lab import cli as command

    command.run(args)


COMMANDS = {
    "demo": _demo, "audit": _audit, "merge": _merge, "report": _report, "compare": _compare, "advise": _advise,
    "lab": _lab, "doctor": _doctor, "completion": _completion,
}  # fmt: skip
