"""Planted faults, each with the rung that must catch it: proof that the checks can fail.

python faults.py RUNG [NAME ...], RUNG = values (the interpreter), ttsem, lint or budgets.

A fault is one edit of a kernel file in a copy of the package. A rung catches it by failing on some of its checks. That
they pass without the edit is what the ladder itself shows; ``--first`` runs the unedited copy first, too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import rungs


class Fault(NamedTuple):
    """One edit: the file, what is replaced by what, and which checks must notice on which rung."""

    rung: str
    file: str
    old: str
    new: str
    checks: str  # file and -k expression, or the gate's --only
    says: str = ""  # what the rung's output must contain


FAULTS = {
    # ---- seen in the values ----
    "dims past the end": Fault(
        "values", "pair_sums", "inside = (d < stop) & (d < dims)", "inside = d < stop", "check_alignment test_layouts"
    ),
    "one view too few": Fault(
        "values",
        "pair_sums",
        "for row in range(0, views, ROWS)",
        "for row in range(0, views - 1, ROWS)",
        "check_alignment test_shapes",
    ),
    "distrust forgotten": Fault("values", "alignment", "(~trusted | vague", "(vague", "check_alignment test_families"),
    "clamp eats NaN": Fault(
        "values",
        "alignment",
        "tl.where(rest < 0, 0.0, rest)",
        "tl.where(rest > 0, rest, 0.0)",
        "check_alignment non_finite",
    ),
    "chunks of the finish": Fault(
        "values",
        "alignment",
        "for first in range(0, chunks, CHUNKS)",
        "for first in range(0, 1, CHUNKS)",
        "check_alignment test_chunks",
    ),
    "norms of vanished squares": Fault(
        "values",
        "alignment",
        "~(_in_range(squared_norm, WIDE) & (squared_norm > 1.001e-24))",
        "~(squared_norm >= 0)",
        "check_alignment magnitudes_of_floats",
    ),
    "zero distance divides": Fault(
        "values",
        "alignment_backward",
        "compared & (distance != 0)",
        "compared",
        "check_alignment_backward zero_distance",
    ),
    "radial part forgotten": Fault(
        "values",
        "alignment_backward",
        "keep_dims=True) - radial * inverse_v",
        "keep_dims=True)",
        "check_alignment_backward test_shapes",
    ),
    "NaN of a view not compared": Fault(
        "values", "alignment_backward", "        if ANCHOR:  #", "        if False:  #", "check_alignment_backward nan"
    ),
    "last tie": Fault(
        "values", "selectivity", "(equal & (index_2 < index))", "(equal & (index_2 > index))", "check_units hazards"
    ),
    "winner joins the rest": Fault(
        "values", "selectivity", "tl.where(second, peak, peak_2)", "peak_2", "check_units hazards"
    ),
    "low forgets NaN": Fault(
        "values", "selectivity", "(low_2 < low) | (low_2 != low_2)", "low_2 < low", "check_units hazards"
    ),
    "relu eats NaN": Fault(
        "values", "unit_sums", "tl.where(x < 0, 0.0, x)", "tl.where(x > 0, x, 0.0)", "check_units means_non_finite"
    ),
    "float sums": Fault(
        "values",
        "unit_sums",
        "total += tile.to(tl.float64)",
        "total += tile.to(tl.float32) * 1.0000001",
        "check_units constant",
    ),
    "a view's steps begin a stage late": Fault(
        "values", "views", "stop & (stops == stage - 1)", "stop & (stops == stage)", "check_views test_stages and uint8"
    ),
    "a resize off by one tap": Fault(
        "values",
        "views_taps",
        "tl.where(first + 1 < source, 2, 1)",
        "tl.where(first + 1 < source, 1, 1)",
        "check_views test_sizes and False",
    ),
    "int32 offsets": Fault(
        "values",
        "unit_means",
        "program = tl.cast(tl.program_id(0), tl.int64)",
        "program = tl.program_id(0)",
        "check_offsets unit_means",
    ),
    "int32 offsets where a gradient is read": Fault(
        "values",
        "alignment_backward",
        "    z += point * point_stride",
        "    z += point.to(tl.int32) * point_stride",
        "check_offsets test_alignment",
    ),
    "int32 offsets where a gradient is written": Fault(
        "values",
        "alignment_backward",
        "    grad_z += point * grad_point_stride",
        "    grad_z += point.to(tl.int32) * grad_point_stride",
        "check_offsets test_alignment",
    ),
    # ---- values are right, memory is not ----
    "rows past the end of a view's box": Fault(
        "ttsem",
        "views_taps",
        "there = (y < box_height) & (x < width)",
        "there = x < width",
        "check_views several_programs",
        "past the end",
    ),
    "views past the last are read": Fault(
        "ttsem",
        "pair_sums",
        "mask=(b < views) & inside",
        "mask=inside & (b < views + 9)",
        "check_alignment shapes0",
        "past the end",
    ),
    "parts overwrite each other": Fault(
        "ttsem",
        "unit_means",
        "out + part * part_stride + other",
        "out + other",
        "check_units in_parts",
        "touch element",
    ),
    "a part nobody wrote": Fault(
        "ttsem",
        "alignment",
        "for first in range(0, chunks, CHUNKS)",
        "for first in range(0, chunks + 16, CHUNKS)",
        "check_alignment shapes0",
    ),
    "store past the last unit": Fault(
        "ttsem",
        "selectivity",
        "chunk * units + unit, unit < units)",
        "chunk * units + unit, unit < units + 1)",
        "check_units hazards",
    ),
    "rows of the next class": Fault(
        "ttsem",
        "class_sums",
        "mask=position < end, other=0)",
        "mask=position < end + 99, other=0)",
        "check_units class_sums",
    ),
    # ---- seen by no run ----
    "masked load without other": Fault(
        "lint", "unit_sums", "(block < last), other=0.0)", "(block < last))", "^means 7x7$", "without other="
    ),
    "load after store": Fault(
        "lint",
        "unit_means",
        "    tl.store(means + at, (total",
        "    total += tl.load(means + at, mask=at < elements, other=0.0)\n    tl.store(means + at, (total",
        "^means 56x56$",
        "one pointer",
    ),
    "a product in 32 bits": Fault(
        "lint",
        "unit_means",
        "program = tl.cast(tl.program_id(0), tl.int64)",
        "program = tl.program_id(0)",
        "^means 7x7$",
        "in 32 bits",
    ),
    "a promise": Fault(
        "lint", "pair_sums", "d = start + in_block", "d = tl.multiple_of(start, 16) + in_block", "", "multiple_of"
    ),
    "atomics": Fault("lint", "selectivity", "tl.store(rest + at", "tl.atomic_add(rest + at", "", "atomic_add"),
    # ---- right, but slow ----
    "a minimum hides alignment": Fault(
        "budgets", "pair_sums", "inside = (d < stop) & (d < dims)", "inside = d < end", "^alignment$", "narrow loads"
    ),
    "a tile too large": Fault(
        "budgets", "launches", '"rows", 4, "views per tile', '"rows", 16, "views per tile', "^alignment$", "registers"
    ),
}


def copy_package(where: Path) -> Path:
    """The parts of the package that the checks import, where they can be edited."""
    shutil.copytree(
        rungs.ROOT / "memkern", where / "memkern",
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "assets", "lab", "audit"),
    )  # fmt: skip
    return where


def plant(fault: Fault, package: Path) -> None:
    path = package / "memkern" / "triton_kernels" / f"{fault.file}.py"
    source = path.read_text()
    if source.count(fault.old) < 1:
        raise ValueError(f"{fault.file}.py has no {fault.old!r} any more: the list of faults must follow the code")
    path.write_text(source.replace(fault.old, fault.new))


def run_rung(fault: Fault, package: Path, python: str) -> tuple[bool, str]:
    """Whether the rung's selected checks pass on this copy of the package, and what they print."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    if fault.rung in ("values", "ttsem"):
        file, expression = fault.checks.split(" ", 1)
        command = ["-m", *rungs.pytest_arguments("-x", str(rungs.HERE / f"{file}.py"), "-k", expression)]
        if fault.rung == "values":
            environment |= {"TRITON_INTERPRET": "1", "DEV": "cpu"}
        else:
            command[1:1] = ["ttsem.sanitize"]
            environment |= {"DEV": "cuda"}
    elif fault.checks:
        command = [str(rungs.HERE / "compile_gate.py"), "--target", "sm_90", "--only", fault.checks]
    else:
        script = "import sys, pathlib, lint; sys.exit('\\n'.join(lint.source_faults(pathlib.Path(sys.argv[1]))))"
        command = ["-c", script, str(package / "memkern" / "triton_kernels" / f"{fault.file}.py")]
        environment["PYTHONPATH"] += f":{rungs.HERE}"
    done = subprocess.run([python, *command], env=environment, cwd=package, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    # An import that fails, or an expression that selects nothing, would pass for a catch.
    ran = re.search(r"\d+ (passed|failed)|kernels compiled", output) or done.returncode < 0 or not fault.checks
    if not ran:
        raise RuntimeError(f"the checks did not run: {output[-2000:]}")
    return done.returncode == 0, output


def caught(name: str, python: str = sys.executable, *, first: bool = False) -> str:
    """Empty if the rung fails with the fault (and, with ``first``, passes without it); else what went wrong."""
    fault = FAULTS[name]
    with tempfile.TemporaryDirectory() as place:
        package = copy_package(Path(place))
        passes, output = run_rung(fault, package, python) if first else (True, "")
        if not passes:
            return f"fails without the fault: {output[-1500:]}"
        plant(fault, package)
        passes, output = run_rung(fault, package, python)
        if passes:
            return "not caught"
        return "" if fault.says in output else f"caught, but does not say {fault.says!r}: {output[-1500:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rung", choices=["values", "ttsem", "lint", "budgets"])
    parser.add_argument("name", nargs="*")
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--python", type=os.path.abspath, default=sys.executable, help="of ttsem's environment")
    options = parser.parse_args()
    missed = 0
    names = options.name or [name for name, fault in FAULTS.items() if fault.rung == options.rung]
    for name in names:
        wrong = caught(name, options.python, first=options.first)
        missed += bool(wrong)
        print(f"{'MISSED' if wrong else 'caught'}  {options.rung:<8} {name}  {wrong}", flush=True)
    print(f"{len(names)} faults, {missed} missed")
    return 1 if missed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
