"""Mutation check of the CUDA ladder: weakens the sources one place at a time; every mutant must be found.

    python -m gpu.hunt_mutants [--file NAME] [--every N] [--minutes M] [--jobs N]

The copy is built without optimization, of the ops that the file belongs to, and runs the cases of gpu.tiny: about ten
seconds of a core for each rung that a mutant reaches.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "mutation"))

import mutants
from gpu import build, planted, sanitizer
from mutants import Mutant, Operator

OPERATORS = (
    Operator(r"__syncthreads\(\);", ";", "barrier dropped"),
    Operator(
        r"\b(int64_t\(blockIdx\.\w\)|point|unit|view|v|j) \* (\w+(\.\w+)?_stride)\b",
        r"int(\1) * int(\2)",
        "offset in 32 bits",
    ),
    # not in a minimum, a < b ? a : b
    Operator(
        r" < (last|op\.dims|units|points|pairs|sums|views|op\.views|packs|items)\b(?!( - 1)? \?)",
        r" <= \1",
        "one too many",
    ),
    Operator(r"if \((.*)\) return;", r"if (false && (\1)) return;", "guard dropped"),
    Operator(r"% 16 == 0", "% 4 == 0", "weaker alignment"),
    Operator(r"% pack == 0", "% 1 == 0", "weaker alignment of strides"),
    Operator(r"\b([a-z]) = ([a-z]) \+ 1\b", r"\1 = \2 + 2", "pairs left out"),
    Operator(r"bit /= 2", "bit /= 4", "short reduction"),
    Operator(r"<= peak\)", "< peak)", "last of ties"),
    Operator(r"value != value\)", "false)", "NaN lost"),
    # not the step of a loop, which would never end
    Operator(r"(?<!; \w)(?<!; part) \+= (?![^;]*\) ?\{?$)", " = ", "overwritten instead of added"),
    Operator(r"\bc = 1; c < chunks", "c = 2; c < chunks", "a chunk left out"),
    Operator(r"\*= (coefficients\.)?inverses?\[.*\];", "*= 1;", "not normalized"),
    Operator(r"- x\[j\]", "+ x[j]", "sum instead of difference"),
    Operator(r"\bdoubtful\(sum\);", "0.0;", "doubtful taken as zero"),
    Operator(r">= batch\.first_block", "> batch.first_block", "the layer before"),
    Operator(r"int64_t\((threadIdx\.x)\) \* [a-z]\w*", r"int64_t(\1)", "packs overlap"),
    Operator(r"int64_t\(([a-z])\)", r"\1", "narrow row"),
    Operator(r"\b(flip_columns|flip_rows|hidden|channels_last) \?", r"!\1 ?", "the other way"),
    Operator(r" - half\b", " - half + 1", "off the center"),
    Operator(r"= !swapped", "= swapped", "the canvas before the blur"),
    Operator(r"\bmost - 1\b", "most + 9", "a tile too small for its rows"),
)

ALIGNMENT = ("alignment", "alignment_backward")
LAYERS = ("layer_stats", "alignment", "unit_means")
# What is built for a file, and the cases that run.
OPS = {
    "unit_means": (("unit_means",), ("means",)),
    "selectivity": (("selectivity", "unit_means"), ("selectivity",)),
    "median_of_others": (("median_of_others",), ("median",)),
    "class_sums": (("class_sums",), ("classes",)),
    "layer_stats": (LAYERS, ("layer_stats",)),
    "batch": (LAYERS, ("layer_stats float",)),
    **dict.fromkeys(
        ("alignment", "distances", "unit_pairs", "alignment_backward", "elements", "launch"),
        (ALIGNMENT, ("alignment", "hazards")),
    ),
    "rules": ((*ALIGNMENT, "selectivity", "unit_means"), ("alignment", "hazards", "selectivity")),
    "reduce": (
        (*ALIGNMENT, "unit_means", "class_sums", "views"),
        ("alignment", "hazards", "means", "classes", "images"),
    ),
    **dict.fromkeys(("views", "views_table", "views_taps", "views_quad", "views_colors"), (("views",), ("images",))),
}
SECONDS = 300.0  # what takes longer never ends: unchanged, a case takes 5 to 60 s
RESULTS = build.ROOT / "build" / "mutants" / "cuda.json"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")


def all_mutants() -> list[Mutant]:
    """Every place of every operator in the files that belong to an op."""
    files = [build.SOURCES.parent / "rules.h", *sorted(build.SOURCES.glob("*.*"))]
    paths = [path for path in files if path.stem in OPS]
    return [mutant for path in paths for mutant in mutants.mutants_of(path, OPERATORS, comment="//")]


def hunt(mutant: Mutant) -> str:
    """The rung that finds a mutant, the likeliest first, or an empty string."""
    stems, cases = OPS[mutant.path.stem]
    # what waits for nobody gives wrong values under some schedules only, and a race under any
    modes = ("tsan", "plain", "asan") if mutant.what == "barrier dropped" else ("plain", "asan", "tsan")
    with tempfile.TemporaryDirectory() as folder:
        sources = planted.copy_of_sources(Path(folder))
        mutant.plant(sources if mutant.path.parent == build.SOURCES else sources.parent)
        for mode in modes:
            try:
                library = build.emulated_library(mode, sources, stems, quick=True)
            except build.BuildError:
                return "compiler"
            for case in cases:
                try:
                    options = ("--first", "--only", case, "--skip", sanitizer.SKIPPED[mode])
                    if sanitizer.run_tiny(library, mode, *options, seconds=SECONDS).code != 0:
                        return mode
                except subprocess.TimeoutExpired:
                    return f"{mode}, for ever"
    return ""


def main() -> int:
    """Runs the check; see above."""
    chosen = all_mutants()
    groups = {OPS[mutant.path.stem]: mutant.path for mutant in chosen}
    return mutants.main(chosen, OPERATORS, hunt, lambda path: groups[OPS[path.stem]], RESULTS, EQUIVALENT)


if __name__ == "__main__":
    sys.exit(main())
