"""Planted faults, each with the rung that must catch it: proof that the checks can fail.

python faults.py [--first] [NAME ...]

A fault is one edit of a kernel file in a copy of the kernels. A rung catches it by failing on some of its checks. That
they pass without the edit is what the ladder itself shows; ``--first`` runs the unedited copy first, too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lint
import rungs
from forks import Ground, Outcome, grounds

KERNELS = rungs.ROOT / "memkern" / "triton_kernels"


class Fault(NamedTuple):
    """One edit: the file, what is replaced by what, and which checks must notice on which rung.

    Attributes:
        rung: "values" (the interpreter), "ttsem", "gate" (compiled code: its budgets and lints) or "source" (lint).
        file: Of the kernels, without .py.
        old: What is replaced wherever it stands there.
        new: By what.
        checks: File and -k expression, or the gate's --only.
        says: What the rung's output must contain.
    """

    rung: str
    file: str
    old: str
    new: str
    checks: str
    says: str = ""


FAULTS = {
    # ---- seen in the values ----
    "one view too few": Fault(
        "ttsem",
        "pair_sums",
        "for row in range(0, 1 if ONE else views, GROUP)",
        "for row in range(0, 1 if ONE else views - GROUP, GROUP)",
        "check_alignment 1x17x20",
    ),
    "distrust forgotten": Fault("values", "alignment", "(~trusted | vague", "(vague", "check_alignment test_families"),
    "no second look": Fault(
        "values",
        "alignment",
        "marked |= _any(doubtful & clear)",
        "marked |= False",
        "check_alignment beside_other_pairs",
    ),
    "unit vectors of any length": Fault(
        "ttsem",
        "pair_sums",
        "elements * scale[v] if len(scale) > 0 else elements",
        "elements",
        "check_alignment second_look and 2x3x300",
    ),
    "near views in floats": Fault(
        "values", "alignment", "unit_square * dims > 0.1", "unit_square >= 0", "check_alignment keep_their_digits"
    ),
    "clamp eats NaN": Fault(
        "values",
        "alignment",
        "tl.where(rest < 0, 0.0, rest)",
        "tl.where(rest > 0, rest, 0.0)",
        "check_alignment non_finite",
    ),
    "pieces of the finish": Fault(
        "ttsem",
        "alignment",
        "for first in range(0, pieces, PIECES)",
        "for first in range(0, 1, PIECES)",
        "check_alignment test_chunks",
    ),
    "norms of vanished squares": Fault(
        "values",
        "alignment",
        "~(_in_range(square, WIDE) & (square > 1.001e-24))",
        "~(square >= 0)",
        "check_alignment magnitudes_of_floats",
    ),
    "zero distance divides": Fault(
        "values",
        "alignment_backward",
        "compared & ~none",
        "compared",
        "check_alignment_backward zero_distance",
    ),
    "radial part forgotten": Fault(
        "values",
        "alignment_backward",
        "keep_dims=True) - radial * inverse_v",
        "keep_dims=True)",
        "check_alignment_backward test_options",
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
        "ttsem", "views", "stop & (stops == stage - 1)", "stop & (stops == stage)", "check_views test_stages and uint8"
    ),
    "a resize off by one tap": Fault(
        "ttsem",
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
        "(at < end) & (view < views)",
        "(at < end) & (view < views + 9)",
        "check_alignment 1x17x20",
        "past the end",
    ),
    "dims past the end are read": Fault(
        "ttsem",
        "pair_sums",
        "tl.minimum(start + PIECE, tl.minimum(stop, dims))",
        "tl.minimum(start + PIECE, stop)",
        "check_alignment 1x3x7",
        "past the end",
    ),
    "parts add to each other": Fault(
        "ttsem",
        "unit_means",
        "        tl.store(at, sums, mask=lane < lanes)\n",
        "        tl.store(at, 0 * sums, mask=(lane < lanes) & (part > 0))\n"
        "        at -= part * part_stride\n"  # part 0 stores its sums, the others add theirs: right if one by one
        "        before = tl.load(at, mask=(lane < lanes) & (part > 0), other=0.0)\n"
        "        tl.store(at, before + sums, mask=lane < lanes)\n",
        "check_units in_parts",
        "touch element",
    ),
    "added to memory that nobody cleared": Fault(
        "ttsem",
        "unit_means",
        "        tl.store(at, sums, mask=lane < lanes)\n",
        "        tl.atomic_add(at, sums, mask=lane < lanes)\n",
        "check_units in_parts",
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
        "pair_sums",
        "tl.sum(lanes.to(tl.float64), 0), mask=(a < b) & (b < views))",
        "tl.sum(lanes.to(tl.float64), 0), mask=(a < b) & (b < views - 1))",
        "check_alignment 1x3x7",
        "in being NaN",  # with which ttsem fills memory; on a GPU, whatever lay there
    ),
    "store past the last unit": Fault(
        "ttsem",
        "selectivity",
        "chunk * units + unit, unit < units",
        "chunk * units + unit, unit < units + 1",
        "check_units state_layouts",
    ),
    "rows of the next class": Fault(
        "ttsem",
        "class_sums",
        "mask=position < end, other=0)",
        "mask=position < end + 99, other=0)",
        "check_units class_sums and 1-float32",
    ),
    # ---- seen by no run ----
    "masked load without other": Fault(
        "gate", "unit_sums", "(block < last), other=0.0)", "(block < last))", "^means 7x7 ", "without other="
    ),
    "load after store": Fault(
        "gate",
        "unit_means",
        "    tl.store(means + at, (total",
        "    total += tl.load(means + at, mask=at < elements, other=0.0)\n    tl.store(means + at, (total",
        "^means 56x56 [|] _divide",
        "one pointer",
    ),
    "a product in 32 bits": Fault(
        "gate",
        "unit_means",
        "program = tl.cast(tl.program_id(0), tl.int64)",
        "program = tl.program_id(0)",
        "^means 7x7 ",
        "in 32 bits",
    ),
    "a promise": Fault("source", "pair_sums", "at = d + (", "at = tl.multiple_of(d, 16) + (", "", "multiple_of"),
    "atomics": Fault("source", "selectivity", "tl.store(rest + at", "tl.atomic_add(rest + at", "", "atomic_add"),
    # ---- right, but slow ----
    "a number whose alignment is hidden": Fault(
        "gate",
        "alignment",
        "@triton.jit\ndef _sum_pairs(",
        '@triton.jit(do_not_specialize=["dims"])\ndef _sum_pairs(',
        "^alignment [|] _sum_pairs",
        "narrow_loads 40 > 0",
    ),
    "a piece of no whole vectors": Fault(
        "gate",
        "alignment",
        'setting("alignment", "blocks"),',
        'setting("alignment", "blocks") + 2,',
        "^alignment [|] _sum_pairs",
        "narrow_loads",
    ),
    "a tile too large": Fault(
        "gate",
        "alignment",
        '"VECTOR": vector(z.dtype)',
        '"VECTOR": 2 * vector(z.dtype)',
        "^alignment [|] _sum_pairs",
        "registers",
    ),
}


# The classes of faults that a kernel written for a GPU can have, and the planted ones that stand for each.
CLASSES = {
    "wrong values": ("one view too few", "distrust forgotten", "last tie", "low forgets NaN", "float sums"),
    "a read past the end that no value shows": ("views past the last are read", "rows of the next class"),
    "a store past the end": ("store past the last unit",),
    "read, add and store without an order between programs": ("parts add to each other",),
    "two programs store one element": ("parts overwrite each other",),
    "sums added to memory that nobody cleared": ("added to memory that nobody cleared",),
    "memory read before anybody wrote it": ("a part nobody wrote",),
    "offsets that wrap at 2^31": ("int32 offsets", "a product in 32 bits"),
    "a read that runs into the next row": ("dims past the end are read",),
    "a promise to the compiler that a caller can break": ("a promise",),
    "a load that may overtake another thread's store": ("load after store",),
    "a masked load whose other lanes are undefined": ("masked load without other",),
    "results that change from run to run": ("atomics",),
    "128-bit loads lost": ("a number whose alignment is hidden", "a piece of no whole vectors"),
    "registers": ("a tile too large",),
}


def copy_kernels(folder: Path) -> None:
    """Into ``folder / "triton_kernels"``, where they can be edited."""
    shutil.copytree(KERNELS, folder / "triton_kernels", ignore=shutil.ignore_patterns("__pycache__"))


def plant(fault: Fault, folder: Path) -> None:
    """Copies the kernels and makes the edit."""
    copy_kernels(folder)
    path = folder / "triton_kernels" / f"{fault.file}.py"
    source = path.read_text()
    if fault.old not in source:
        raise ValueError(f"{fault.file}.py has no {fault.old!r} any more: the list of faults must follow the code")
    path.write_text(source.replace(fault.old, fault.new))


def run_rung(rung: str, checks: str, folder: Path, ground: Callable[[str], Ground]) -> Outcome:
    """What the rung's selected checks say of the kernels in a folder.

    Raises:
        RuntimeError: If they did not run: no import that fails, no empty selection may pass for a catch.
    """
    if rung == "source":
        found = [fault for path in folder.glob("triton_kernels/*.py") for fault in lint.source_faults(path)]
        return Outcome(int(bool(found)), "\n".join(found))
    if rung == "gate":
        arguments = ["--target", "sm_90", "--only", checks]
    else:
        file, expression = checks.split(" ", 1)
        arguments = rungs.checks("-x", str(rungs.HERE / f"{file}.py"), "-k", expression, marked=rungs.MARKED[rung])
    outcome = ground(rung).run(folder, arguments)
    if outcome.code >= 0 and not re.search(r"\d+ (passed|failed)|[1-9]\d* kernels compiled", outcome.output):
        raise RuntimeError(f"the checks did not run: {outcome.output[-2000:]}")
    return outcome


def caught(name: str, ground: Callable[[str], Ground], *, first: bool = False) -> str:
    """Empty if the rung fails with the fault (and, with ``first``, passes without it); else what went wrong."""
    fault = FAULTS[name]
    for edit in [fault._replace(new=fault.old), fault] if first else [fault]:
        with tempfile.TemporaryDirectory() as place:
            plant(edit, Path(place))
            outcome = run_rung(fault.rung, fault.checks, Path(place), ground)
        if edit is not fault and outcome.code != 0:
            return f"fails without the fault: {outcome.output[-1500:]}"
    if outcome.code == 0:
        return "not caught"
    return "" if fault.says in outcome.output else f"caught, but does not say {fault.says!r}: {outcome.output[-1500:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="of a fault; all by default")
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    missed = 0
    names = options.name or list(FAULTS)
    with grounds() as ground:
        for name in names:
            wrong = caught(name, ground, first=options.first)
            missed += bool(wrong)
            print(f"{'MISSED' if wrong else 'caught'}  {FAULTS[name].rung:<8} {name}  {wrong}", flush=True)
    print(f"{len(names)} faults, {missed} missed")
    return 1 if missed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
