"""Faults planted in a copy of csrc/cuda, each named with the rung of the ladder that must find it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from gpu import build, sanitizer


class Fault(NamedTuple):
    """One fault.

    Attributes:
        file: The file below csrc/cuda that it is planted in.
        old: The text that is replaced; it must occur exactly once.
        new: What it is replaced by.
        stems: The ops to build.
        only: The cases of gpu.tiny to run.
        rung: "build", or the mode of the library that finds it: "plain", "asan", "tsan".
        says: A regular expression that the output must match.
    """

    file: str
    old: str
    new: str
    stems: tuple[str, ...]
    only: str
    rung: str
    says: str


ALIGNMENT = ("alignment", "alignment_backward")
FEW_VIEWS, MEANS = "alignment float32 2", "means float32"  # 24 dims: whole packs, so pair_sums
VALUES, RACE = r"FAILED .*, expected|FAILED .*differ", "WARNING: ThreadSanitizer: data race"
OUT_OF_BOUNDS = "AddressSanitizer: heap-buffer-overflow"

FAULTS = {
    "missing barrier": Fault(
        "alignment.cuh", "  __syncthreads();\n", "", ALIGNMENT, FEW_VIEWS, "tsan", RACE,
    ),
    "shared memory used again without a barrier": Fault(
        "reduce.cuh", "  __syncthreads();  // the sums of the call before have been read\n", "", ALIGNMENT,
        "hazards float32", "tsan", RACE,
    ),
    "one warp taken to run in step": Fault(
        "unit_means.cuh", "  __syncthreads();\n", "  if (blockDim.x > kWarp) __syncthreads();\n", ("unit_means",),
        MEANS, "tsan", RACE,
    ),
    "fence and ticket instead of two launches": Fault(
        "unit_means.cuh", "    to.partial[(point * to.parts + part) * units + unit] = sum;\n",
        "    __threadfence(), atomicAdd(&to.partial[point * units + unit], sum);\n", ("unit_means",), MEANS, "build",
        "__threadfence.* was not declared|atomicAdd.* was not declared",
    ),
    "blocks add to one element": Fault(
        "unit_means.cuh", "    to.partial[(point * to.parts + part) * units + unit] = sum;\n",
        "    to.partial[point * to.parts * units + unit] += sum;\n", ("unit_means",), MEANS + " (1, 9", "tsan", RACE,
    ),
    "shared memory read before it is written": Fault(
        "alignment.cuh", "    warp_totals[warp_index()][part + lane_index()] = warp_sums(values);\n",
        "    const double total = warp_sums(values);\n"
        "    if (warp_index() > 0) warp_totals[warp_index()][part + lane_index()] = total;\n",
        ALIGNMENT, FEW_VIEWS, "plain", "differ in being NaN",
    ),
    "shared memory out of bounds": Fault(
        "alignment.cuh", "MEMKERN_SHARED(double[warps][held], warp_totals);",
        "MEMKERN_SHARED(double[warps - 1][held], warp_totals);", ALIGNMENT, FEW_VIEWS, "asan",
        OUT_OF_BOUNDS + "|index 3 out of bounds",
    ),
    "global memory out of bounds": Fault(
        "unit_means.cuh", "  if (index >= points * units) return;\n", "", ("unit_means",), MEANS + " (1, 9", "asan",
        OUT_OF_BOUNDS,
    ),
    "wide load of a misaligned address": Fault(
        "launch.h", "reinterpret_cast<uintptr_t>(data) % 16 == 0 && ", "", ALIGNMENT, "float32 misaligned packs",
        "asan",
        "load of misaligned address|constructor call on misaligned|misaligned address",
    ),
    "shuffle among lanes that have left": Fault(
        "class_sums.cuh", "  for (int64_t at = first; at < last; at += kLabels) {",
        "  for (int64_t at = first; writes && at < last; at += kLabels) {", ("class_sums",), "classes torch.float32 5",
        "plain", "names lane|deadlock",
    ),
    "divergent barrier": Fault(
        "reduce.cuh", "  if (lane_index() == 0) sums[warp_index()] = x;\n  __syncthreads();\n",
        "  if (lane_index() == 0) {\n    sums[warp_index()] = x;\n    __syncthreads();\n  } else {\n"
        "    __syncthreads();\n  }\n",
        ALIGNMENT, FEW_VIEWS, "plain", "barrier divergence: .* wait at .*reduce.cuh:",
    ),
    "offsets in 32 bits": Fault(
        "alignment.cuh", "int64_t(blockIdx.x) * op.point_stride", "int(blockIdx.x) * int(op.point_stride)", ALIGNMENT,
        "far apart alignment few", "asan", "signed integer overflow",
    ),
    "ragged end left out": Fault(
        "elements.cuh", "    if (i < count) {\n      MEMKERN_COUNT_LOAD", "    if (false) {\n      MEMKERN_COUNT_LOAD",
        ALIGNMENT, "float32 ragged packs", "plain", VALUES,
    ),
    "ties take the last": Fault(
        "../rules.h", "return !(value <= peak) & (peak == peak);", "return !(value < peak) & (peak == peak);",
        ("selectivity", "unit_means"), "selectivity float32", "plain", "FAILED .*(index|differ|close)",
    ),
    "a block takes the layer before its own": Fault(
        "batch.cuh", ">= batch.first_block[task + 1]", "> batch.first_block[task + 1]",
        ("layer_stats", "alignment", "unit_means"), "layer_stats float32 many", "asan", OUT_OF_BOUNDS,
    ),
    "views of a second look as long as they are": Fault(
        "alignment.cuh", "      if (scaled) {\n        scale", "      if (false) {\n        scale", ALIGNMENT,
        "float32 second look", "plain", VALUES,
    ),
    "a second look with the norms of the first point": Fault(
        "unit_pairs.cuh", "task.partial + point * task.chunks * sums + pair_count(op)",
        "task.partial + pair_count(op)", ALIGNMENT, "float32 second look", "plain", VALUES,
    ),
    "a tile of views filtered anew while it is read": Fault(
        "views.cuh", "y + at_once : height(), at);\n        __syncthreads();\n", "y + at_once : height(), at);\n",
        ("views",), "images float32 large", "tsan", RACE,
    ),
    "rows of a view that their tile does not hold": Fault(
        "views.cuh", "(tile.rows - most - 1)", "(tile.rows + 4 * most)", ("views",), "images float32 narrow", "asan",
        OUT_OF_BOUNDS,
    ),
    "a blur from the canvas that it writes": Fault(
        "views.cuh", "const P* const source = canvas(false);", "const P* const source = canvas(true);", ("views",),
        "images uint8 3 small", "plain", VALUES,
    ),
    "a view reads past its box": Fault(
        "views.cuh", "(box.top + first + begin) * image.row_stride", "(box.top + first + begin + 1) * image.row_stride",
        ("views",), "images uint8 of (1, 1)", "asan", OUT_OF_BOUNDS,
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
    text = (sources / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.file} has changed: {fault.old!r} occurs {text.count(fault.old)} times"
    (sources / fault.file).write_text(text.replace(fault.old, fault.new))
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
