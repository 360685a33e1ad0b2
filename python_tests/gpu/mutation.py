"""Mutation check of the CUDA ladder: weakens the sources one place at a time; every mutant must be found.

    python -m gpu.mutation [--file NAME] [--every N]

Prints a line per mutant: the rung that found it, or SURVIVED. Takes about half a minute per mutant.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gpu import build, planted, sanitizer

# A pattern, what replaces it, and what that is called. One occurrence on one line at a time.
OPERATORS = (
    (r"__syncthreads\(\);", ";", "barrier dropped"),
    (r"\bint64_t\((blockIdx\.\w)\)", r"int(\1)", "narrow block index"),
    (r" < (last|op\.dims|units|points|pairs|sums|views|op\.views|packs|items)\b", r" <= \1", "one too many"),
    (r"if \((.*)\) return;", r"if (false && (\1)) return;", "guard dropped"),
    (r"% 16 == 0", "% 4 == 0", "weaker alignment"),
    (r"% pack == 0", "% 1 == 0", "weaker alignment of strides"),
    (r"\bj = i \+ 1\b", "j = i + 2", "pairs left out"),
    (r"bit /= 2", "bit /= 4", "short reduction"),
    (r"<= peak\)", "< peak)", "last of ties"),
    (r"value != value\)", "false)", "NaN lost"),
    (r" \+= ", " = ", "overwritten instead of added"),
    (r"\bc = 1; c < chunks", "c = 2; c < chunks", "a chunk left out"),
    (r"\* inverses\[", "* (A)1 + 0 * inverses[", "not normalized"),
    (r"- x\[j\]", "+ x[j]", "sum instead of difference"),
    (r"\bkDoubtful\b;", "0;", "doubtful taken as zero"),
    (r">= batch\.first_block", "> batch.first_block", "the layer before"),
    (r"int64_t\((threadIdx\.x)\) \* width", r"int64_t(\1)", "packs overlap"),
    (r"int64_t\(y\)", "y", "narrow row"),
    (r"\b(flip_columns|flip_rows|hidden|channels_last) \?", r"!\1 ?", "the other way"),
    (r" - half\b", " - half + 1", "off the center"),
    (r"= !swapped", "= swapped", "the canvas before the blur"),
    (r"\bmost - 1\b", "most + 9", "a tile too small for its rows"),
)

LAYERS = ("layer_stats", "alignment", "unit_means")
# What a file's ops are, and so what must be built and run.
OPS = {
    "alignment": ("alignment", "alignment_backward"),
    "distances": ("alignment", "alignment_backward"),
    "pairs": ("alignment", "alignment_backward"),
    "alignment_backward": ("alignment", "alignment_backward"),
    "unit_means": ("unit_means",),
    "selectivity": ("selectivity", "unit_means"),
    "median_of_others": ("median_of_others",),
    "class_sums": ("class_sums",),
    "layer_stats": LAYERS,
    "batch": LAYERS,
    "reduce": ("alignment", "alignment_backward"),
    "elements": ("alignment", "alignment_backward"),
    "views": ("views",),
    "views_taps": ("views",),
    "views_colors": ("views",),
}
CASES = {
    "unit_means": "means",
    "selectivity": "selectivity",
    "median_of_others": "median",
    "class_sums": "classes",
    "layer_stats": "layer_stats",
    "batch": "layer_stats",
    "views": "images",
    "views_taps": "images",
    "views_colors": "images",
}


class Mutant(NamedTuple):
    """One change of one line."""

    file: str
    line: int
    old: str
    new: str
    what: str


def mutants() -> Iterator[Mutant]:
    """Every place of every operator in the kernels and launchers."""
    for path in sorted([*build.SOURCES.glob("*.cuh"), *build.SOURCES.glob("*.cu")]):
        if path.stem not in OPS:
            continue
        for number, line in enumerate(path.read_text().splitlines()):
            code = line.split("//")[0]
            for pattern, replacement, what in OPERATORS:
                new = re.sub(pattern, replacement, code, count=1)
                if new != code:
                    yield Mutant(path.name, number, code, new, what)


def killer(mutant: Mutant) -> str:
    """The rung that finds a mutant, or an empty string."""
    stem = mutant.file.split(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        sources = planted.copy_of_sources(Path(folder))
        lines = (sources / mutant.file).read_text().splitlines()
        lines[mutant.line] = mutant.new
        (sources / mutant.file).write_text("\n".join(lines) + "\n")
        for mode in build.MODES:
            try:
                library = build.emulated_library(mode, sources, OPS[stem])
            except build.BuildError:
                return "does not compile"
            for only in (CASES[stem],) if stem in CASES else ("alignment", "hazards"):
                if sanitizer.run_tiny(library, mode, "--only", only).code != 0:
                    return mode
    return ""


def main() -> int:
    """Runs the check; see above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", default="", help="only files whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="only every N-th mutant")
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if options.file in mutant.file][:: options.every]
    survivors = 0
    for mutant in chosen:
        found = killer(mutant)
        survivors += not found
        print(
            f"{found or 'SURVIVED':16} {mutant.file}:{mutant.line + 1} {mutant.what}: {mutant.old.strip()}", flush=True
        )
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants found")
    return int(survivors > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main())
