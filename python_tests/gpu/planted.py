"""Faults planted in a copy of csrc/cuda, each named with the rung of the ladder that must find it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from gpu import build, sanitizer
from operations import both, drop, keep, operator, put, rewrite, within, without
from places import Mark, Operation, Place, change


class Fault(NamedTuple):
    """One fault.

    Attributes:
        place: Where in csrc/cuda it is planted.
        operation: What is done there.
        stems: The ops to build.
        only: The cases of gpu.tiny to run.
        rung: "build", or the mode of the library that finds it: "plain", "asan", "tsan".
        says: A regular expression that the output must match.
    """

    place: Place
    operation: Operation
    stems: tuple[str, ...]
    only: str
    rung: str
    says: str


ALIGNMENT = ("alignment", "alignment_backward")
FEW_VIEWS, MEANS = "alignment float32 2", "means float32"  # 24 dims: whole packs, so pair_sums
VALUES, RACE = r"FAILED .*, expected|FAILED .*differ", "WARNING: ThreadSanitizer: data race"
OUT_OF_BOUNDS = "AddressSanitizer: heap-buffer-overflow"

FAULTS = {
    "missing barrier": Fault(Mark("warp totals"), drop, ALIGNMENT, FEW_VIEWS, "tsan", RACE),
    "shared memory used again without a barrier": Fault(
        Mark("sums of the call before"), drop, ALIGNMENT, "hazards float32", "tsan", RACE,
    ),
    "one warp taken to run in step": Fault(
        Mark("sums of rows"), rewrite("if (blockDim.x > 32) {0}"), ("unit_means",), MEANS, "tsan", RACE,
    ),
    "fence and ticket instead of two launches": Fault(
        Mark("sum of a part", "Assign"), rewrite("__threadfence(), atomicAdd(&{1}, {2})"), ("unit_means",), MEANS,
        "build", "__threadfence.* was not declared|atomicAdd.* was not declared",
    ),
    "blocks add to one element": Fault(
        Mark("sum of a part", "Assign"), both(within("BinOp +", 2, without(2)), operator("+=")), ("unit_means",),
        MEANS + " (1, 9", "tsan", RACE,
    ),
    "shared memory read before it is written": Fault(
        Mark("total of a warp", "Assign"), rewrite("const double found = {2};\nif (threadIdx.x >= 32) {1} = found"),
        ALIGNMENT, FEW_VIEWS, "plain", "differ in being NaN",
    ),
    "shared memory out of bounds": Fault(
        Mark("room of warp totals", "Subscript", 2), put(2, "{2} - 1"), ALIGNMENT, FEW_VIEWS, "asan",
        OUT_OF_BOUNDS + "|index 3 out of bounds",
    ),
    "global memory out of bounds": Fault(
        Mark("units past the last"), drop, ("unit_means",), MEANS + " (1, 9", "asan", OUT_OF_BOUNDS,
    ),
    "wide load of a misaligned address": Fault(
        Mark("alignment of packs", "BoolOp &&"), without(1), ALIGNMENT, "float32 misaligned packs", "asan",
        "load of misaligned address|constructor call on misaligned|misaligned address",
    ),
    "shuffle among lanes that have left": Fault(
        Mark("lists of labels", "Compare <"), rewrite("threadIdx.x % 32 < 5 && {0}"), ("class_sums",),
        "classes torch.float32 5", "plain", "names lane|deadlock",
    ),
    "divergent barrier": Fault(
        Mark("sum of the block"), rewrite("if (threadIdx.x % 32 == 0) {\n{0}\n} else {\n{0}\n}"), ALIGNMENT, FEW_VIEWS,
        "plain", "barrier divergence: .* wait at .*reduce.cuh:",
    ),
    "offsets in 32 bits": Fault(
        Mark("offset of a point", "BinOp *"), rewrite("int({1}) * int({2})"), ALIGNMENT, "far apart alignment few",
        "asan", "signed integer overflow",
    ),
    "ragged end left out": Fault(
        Mark("ragged end", "If"), put(1, "false"), ALIGNMENT, "float32 ragged packs", "plain", VALUES,
    ),
    "rows of views that hold their own number": Fault(
        Mark("a view and itself", "If"), put(1, "false"), ALIGNMENT, FEW_VIEWS, "plain", VALUES,
    ),
    "halves of all views": Fault(
        Mark("one half", "IfExp"), keep(2), ALIGNMENT, FEW_VIEWS.replace(" 2", " 5"), "plain", VALUES,
    ),
    "l1 keeps signs": Fault(
        Mark("absolute value", "Call fabs"), keep(1), ALIGNMENT, "alignment float32 distances 5", "plain", VALUES,
    ),
    "ties take the last": Fault(
        Mark("above the peak", "Compare <="), operator("<"), ("selectivity", "unit_means"), "selectivity float32",
        "plain", "FAILED .*(index|differ|close)",
    ),
    "a block takes the layer before its own": Fault(
        Mark("layer of a block", "Compare >="), operator(">"), ("layer_stats", "alignment", "unit_means"),
        "layer_stats float32 many", "asan", OUT_OF_BOUNDS,
    ),
    "views of a second look as long as they are": Fault(
        Mark("scaled views", "If"), put(1, "false"), ALIGNMENT, "float32 second look", "plain", VALUES,
    ),
    "a second look with the norms of the first point": Fault(
        Mark("norms of a point", "BinOp +"), without(2), ALIGNMENT, "float32 second look", "plain", VALUES,
    ),
    "a tile of views filtered anew while it is read": Fault(
        Mark("next tile"), drop, ("views",), "images float32 large", "tsan", RACE,
    ),
    "rows of a view that their tile does not hold": Fault(
        Mark("rows of a tile", "BinOp -"), rewrite("{1} + 4 * {2}"), ("views",), "images float32 narrow", "asan",
        OUT_OF_BOUNDS,
    ),
    "a blur from the canvas that it writes": Fault(
        Mark("canvas of a blur", "Call"), put(1, "true"), ("views",), "images uint8 3 small", "plain", VALUES,
    ),
    "a view reads past its box": Fault(
        Mark("box of a view", "BinOp +", 2), rewrite("{0} + 1"), ("views",), "images uint8 of (1, 1)", "asan",
        OUT_OF_BOUNDS,
    ),
}  # fmt: skip


def copy_of_sources(folder: Path) -> Path:
    """A copy of csrc's records and csrc/cuda below ``folder``; returns the latter."""
    for header in build.SOURCES.parent.glob("*.h"):
        shutil.copy(header, folder / header.name)
    shutil.copytree(build.SOURCES, folder / "cuda")
    return folder / "cuda"


def findings(fault: Fault, folder: Path) -> str:
    """Plants a fault in a copy below ``folder`` and says what its rung says; empty if it finds nothing."""
    sources = copy_of_sources(folder)
    edit = change(fault.place, fault.operation)
    (sources.parent / Path(edit.file).relative_to("csrc")).write_text(edit.new)
    mode = "plain" if fault.rung == "build" else fault.rung
    try:
        library = build.emulated_library(mode, sources, fault.stems, quick=True)
    except build.BuildError as error:
        return str(error) if fault.rung == "build" else ""
    done = sanitizer.run_tiny(library, mode, "--first", "--only", fault.only)
    return done.output if done.code != 0 else ""


def is_found(fault: Fault, said: str) -> bool:
    """Whether what a rung said names the fault."""
    return re.search(fault.says, said) is not None
