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
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lint
import rungs
from forks import Ground, Outcome, grounds

sys.path.insert(0, str(rungs.HERE.parent / "mutation"))

from operations import append, both, flip, keep, operator, put, rewrite, swap, within, without
from places import Operation, Place, Python, change

KERNELS = rungs.ROOT / "memkern" / "triton_kernels"


class Fault(NamedTuple):
    """One edit: where, what is done there, and which checks must notice on which rung.

    Attributes:
        rung: "values" (the interpreter), "ttsem", "gate" (compiled code: its budgets and lints) or "source" (lint).
        place: Where in the kernels.
        operation: What is done there.
        checks: File and -k expression, or the gate's --only.
        says: What the rung's output must contain.
    """

    rung: str
    place: Place
    operation: Operation
    checks: str
    says: str = ""


def kernel(stem: str, function: str, kind: str, n: int = 1) -> Python:
    """The n-th node of a kind in a function of a kernel file."""
    return Python(f"memkern/triton_kernels/{stem}.py", function, kind, n)


NARROW = put(1, "{1}.to(tl.int32)")
ATOMIC = rewrite("tl.atomic_add({1}, {2}, {3})")
NAN_LOST = both(within("Compare", 1, operator(">")), swap(2, 3))  # of where(x < 0, 0, x)
TO_ONE_PART = (  # part 0 stores its sums, the others add theirs: right if one by one
    "tl.store({1}, 0 * {2}, mask=({Compare < 1.0}) & ({Assign 2.1} > 0)); "
    "tl.store({1} - {BinOp * 4.0}, {2} + tl.load({1} - {BinOp * 4.0}, "
    "mask=({Compare < 1.0}) & ({Assign 2.1} > 0), other=0.0), {3})"
)

FAULTS = {
    # ---- seen in the values ----
    "one view too few": Fault(
        "ttsem", kernel("pair_sums", "store_pair_sums", "Call range", 2), put(2, "{2} - {3}"),
        "check_alignment 1x17x20",
    ),
    "distrust forgotten": Fault(
        "values", kernel("alignment", "_finish", "BinOp |"), without(1), "check_alignment test_families",
    ),
    "a view's distance to itself": Fault(
        "values", kernel("view_sums", "_sum_views", "BinOp &"), keep(1), "check_alignment view_sums and 3x4x40",
    ),
    "halves of all views": Fault(
        "values", kernel("view_sums", "_sum_views", "Call where"), keep(2), "check_alignment view_sums and 3x4x40",
    ),
    "l1 keeps signs": Fault(
        "values", kernel("exact", "exact_l1", "Call abs"), keep(1), "check_alignment other_distances and l1",
    ),
    "no second look": Fault(
        "values", kernel("alignment", "_finish", "AugAssign |=", 2), put(2, "False"),
        "check_alignment beside_other_pairs",
    ),
    "unit vectors of any length": Fault(
        "ttsem", kernel("pair_sums", "_load", "IfExp", 2), keep(3), "check_alignment second_look and 2x3x300",
    ),
    "near views in floats": Fault(
        "values", kernel("alignment", "_is_clear", "Compare >"), rewrite("{1} >= 0"),
        "check_alignment keep_their_digits",
    ),
    "clamp eats NaN": Fault(
        "values", kernel("alignment", "_unit_distance", "Call where"), NAN_LOST, "check_alignment non_finite",
    ),
    "pieces of the finish": Fault(
        "ttsem", kernel("alignment", "_add_pieces", "Call range"), put(2, "1"), "check_alignment test_chunks",
    ),
    "norms of vanished squares": Fault(
        "values", kernel("alignment", "_norms", "BinOp &", 2),
        both(without(1), within("Compare >", 1, both(operator(">="), put(2, "0")))),
        "check_alignment magnitudes_of_floats",
    ),
    "zero distance divides": Fault(
        "values", kernel("alignment_backward", "_coefficients", "BinOp &", 3), keep(1),
        "check_alignment_backward zero_distance",
    ),
    "radial part forgotten": Fault(
        "values", kernel("alignment_backward", "_coefficients", "BinOp -", 4), keep(1),
        "check_alignment_backward test_options",
    ),
    "NaN of a view not compared": Fault(
        "values", kernel("alignment_backward", "_combine", "If", 2), put(1, "False"), "check_alignment_backward nan",
    ),
    "last tie": Fault("values", kernel("selectivity", "_merge", "Compare <"), flip, "check_units hazards"),
    "winner joins the rest": Fault(
        "values", kernel("selectivity", "_merge", "Call where"), keep(3), "check_units hazards",
    ),
    "low forgets NaN": Fault(
        "values", kernel("selectivity", "_merge", "Call where", 4), within("BinOp |", 1, keep(1)),
        "check_units hazards",
    ),
    "relu eats NaN": Fault(
        "values", kernel("unit_sums", "activate", "Call where"), NAN_LOST, "check_units means_non_finite",
    ),
    "float sums": Fault(
        "values", kernel("unit_sums", "lane_sums", "Call to"), both(put(1, "tl.float32"), append(" * 1.0000001")),
        "check_units constant",
    ),
    "a view's steps begin a stage late": Fault(
        "ttsem", kernel("views", "_segment", "BinOp -"), keep(1), "check_views test_stages and uint8",
    ),
    "a resize off by one tap": Fault(
        "ttsem", kernel("views_taps", "windows", "Call where", 3), put(2, "1"), "check_views test_sizes and False",
    ),
    "int32 offsets": Fault(
        "values", kernel("unit_means", "_sum_lanes", "Call cast"), keep(1), "check_offsets unit_means",
    ),
    "int32 offsets where a gradient is read": Fault(
        "values", kernel("alignment_backward", "_combine", "AugAssign", 1), within("BinOp *", 1, NARROW),
        "check_offsets test_alignment",
    ),
    "int32 offsets where a gradient is written": Fault(
        "values", kernel("alignment_backward", "_combine", "AugAssign", 2), within("BinOp *", 1, NARROW),
        "check_offsets test_alignment",
    ),
    # ---- values are right, memory is not ----
    "rows past the end of a view's box": Fault(
        "ttsem", kernel("views_taps", "filter_rows", "BinOp &"), without(1), "check_views several_programs",
        "past the end",
    ),
    "views past the last are read": Fault(
        "ttsem", kernel("pair_sums", "_load", "Compare <", 3), put(2, "{2} + 9"), "check_alignment 1x17x20",
        "past the end",
    ),
    "dims past the end are read": Fault(
        "ttsem", kernel("pair_sums", "store_pair_sums", "Call minimum", 2), keep(1), "check_alignment 1x3x7",
        "past the end",
    ),
    "parts add to each other": Fault(
        "ttsem", kernel("unit_means", "_sum_lanes", "Call store"), rewrite(TO_ONE_PART), "check_units in_parts",
        "touch element",
    ),
    "added to memory that nobody cleared": Fault(
        "ttsem", kernel("unit_means", "_sum_lanes", "Call store"), ATOMIC, "check_units in_parts",
    ),
    "parts overwrite each other": Fault(
        "ttsem", kernel("unit_means", "_sum_lanes", "BinOp +", 4), without(2), "check_units in_parts", "touch element",
    ),
    "a part nobody wrote": Fault(
        "ttsem", kernel("pair_sums", "_store_pair", "Compare <", 2), put(2, "{2} - 1"), "check_alignment 1x3x7",
        "in being NaN",  # with which ttsem fills memory; on a GPU, whatever lay there
    ),
    "store past the last unit": Fault(
        "ttsem", kernel("selectivity", "_visit", "Compare <", 7), put(2, "{2} + 1"), "check_units state_layouts",
    ),
    "rows of the next class": Fault(
        "ttsem", kernel("class_sums", "_sum_class", "FunctionDef"),
        both(within("Compare <", 1, put(2, "{2} + 99")), within("Compare <", 4, put(2, "{2} + 99"))),
        "check_units class_sums and 1-float32",
    ),
    # ---- seen by no run ----
    "masked load without other": Fault(
        "gate", kernel("unit_sums", "_tile", "Call load"), without(3), "^means 7x7 ", "without other=",
    ),
    "load after store": Fault(
        "gate", kernel("unit_means", "_divide", "Call store"),
        rewrite("tl.store({1}, {2} + tl.load({1}, {3}, other=0.0), {3})"), "^means 56x56 [|] _divide", "one pointer",
    ),
    "a product in 32 bits": Fault(
        "gate", kernel("unit_means", "_sum_lanes", "Call cast"), keep(1), "^means 7x7 ", "in 32 bits",
    ),
    "a promise": Fault(
        "source", kernel("pair_sums", "_load", "BinOp +"), put(1, "tl.multiple_of({1}, 16)"), "", "multiple_of",
    ),
    "atomics": Fault("source", kernel("selectivity", "_store", "Call store", 3), ATOMIC, "", "atomic_add"),
    # ---- right, but slow ----
    "a number whose alignment is hidden": Fault(
        "gate", kernel("alignment", "_sum_pairs", "Attribute jit"), append("(do_not_specialize=[3])"),
        "^alignment [|] _sum_pairs", "narrow_loads 40 > 0",
    ),
    "a piece of no whole vectors": Fault(
        "gate", kernel("alignment", "pair_tiles", "Call setting", 4), append(" + 2"), "^alignment [|] _sum_pairs",
        "narrow_loads",
    ),
    "a tile too large": Fault(
        "gate", kernel("alignment", "pair_tiles", "Call vector", 2), rewrite("2 * {0}"), "^alignment [|] _sum_pairs",
        "registers",
    ),
}  # fmt: skip


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
    edit = change(fault.place, fault.operation)
    (folder / "triton_kernels" / Path(edit.file).name).write_text(edit.new)


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
    for planter in [copy_kernels, partial(plant, fault)] if first else [partial(plant, fault)]:
        with tempfile.TemporaryDirectory() as place:
            planter(Path(place))
            outcome = run_rung(fault.rung, fault.checks, Path(place), ground)
        if planter is copy_kernels and outcome.code != 0:
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
