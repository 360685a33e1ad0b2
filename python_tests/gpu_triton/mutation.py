"""Mutation check of the Triton ladder: changes the kernels one place at a time; every mutant must be found.

python mutation.py [--file NAME] [--every N] [--list]

Prints a line per mutant: the rung that found it, or SURVIVED. The interpreter's checks come first, then the lints and
budgets, then ttsem where it is installed. Takes from ten seconds to a few minutes per mutant.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import faults
import run_ttsem
import rungs

KERNELS = rungs.ROOT / "memkern" / "triton_kernels"

# A pattern, what replaces it, and what that is called. One occurrence on one line at a time.
OPERATORS = (
    (r"(?<!<) < ", " <= ", "one too many"),
    (r"(?<!>) > (?!0)", " >= ", "limit moved"),
    (r" \+= ", " = ", "overwritten instead of added"),
    (r" \| ", " & ", "and instead of or"),
    (r" & ", " | ", "or instead of and"),
    (r"\+ 1\b", "+ 2", "one further"),
    (r"- 1\b", "- 0", "one missing"),
    (r"(\w|\)) - (\w|\()", r"\1 + \2", "sum instead of difference"),
    (r"(\w|\)) \* (\w|\()", r"\1 + \2", "sum instead of product"),
    (r"\bother=0(\.0)?\b", r"other=7\1", "lanes outside count"),
    (r"range\(0, ", "range(1, ", "the first left out"),
    (r"tl\.minimum", "tl.maximum", "larger instead of smaller"),
    (r"tl\.where\(([^(),]+), ", r"tl.where(~(\1), ", "the other way round"),
    (r"tl\.cast\(tl\.program_id\(0\), tl\.int64\)", "tl.program_id(0)", "32-bit program"),
    (r"\.to\(tl\.float64\)", ".to(tl.float32)", "narrow sum"),
)

# What the checks of a file are, quickest first, and which cases of the compile gate it is in.
CHECKS = {
    "alignment": ("check_alignment check_offsets", "^alignment$"),
    "alignment_backward": ("check_alignment_backward check_offsets", "^backward$"),
    "pair_sums": ("check_alignment check_layer_stats", "^alignment$"),
    "exact": ("check_alignment", "^alignment f64$"),
    "unit_means": ("check_units check_offsets", "^means 7x7$"),
    "unit_sums": ("check_units check_layer_stats", "^means 7x7$"),
    "layer_stats": ("check_layer_stats", "^layer maps$"),
    "selectivity": ("check_units check_offsets", "^selectivity$"),
    "class_sums": ("check_units", "^class sums$"),
}


class Mutant(NamedTuple):
    """One change of one line."""

    file: str
    line: int
    old: str
    new: str
    what: str


def mutants() -> Iterator[Mutant]:
    """Every place of every operator inside of the kernels."""
    for stem in CHECKS:
        text = (KERNELS / f"{stem}.py").read_text()
        lines, kernels = text.splitlines(), [node for node in ast.parse(text).body if is_kernel(node)]
        for number in sorted({line for node in kernels for line in body_lines(node)}):
            code, hash_, comment = lines[number].partition("  #")
            for pattern, replacement, what in OPERATORS:
                for match in re.finditer(pattern, code):
                    new = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                    yield Mutant(stem, number, lines[number], new + hash_ + comment, what)


def is_kernel(node: ast.stmt) -> bool:
    """Whether Triton compiles this function."""
    return isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(d) for d in node.decorator_list)


def body_lines(node: ast.FunctionDef) -> Iterator[int]:
    """The lines of its statements, docstring apart, counted from 0."""
    for statement in node.body:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            yield from range(statement.lineno - 1, statement.end_lineno)


def killer(mutant: Mutant) -> str:
    """The rung that finds a mutant, or an empty string."""
    checks, cases = CHECKS[mutant.file]
    ttsem = run_ttsem.installed()
    with tempfile.TemporaryDirectory() as folder:
        package = faults.copy_package(Path(folder))
        path = package / "memkern" / "triton_kernels" / f"{mutant.file}.py"
        lines = path.read_text().splitlines()
        lines[mutant.line] = mutant.new
        path.write_text("\n".join(lines) + "\n")
        for rung in ("values", "budgets", "ttsem"):
            if rung == "ttsem" and ttsem is None:
                continue
            python = str(ttsem) if rung == "ttsem" else sys.executable
            for check in [cases] if rung == "budgets" else [f"{check} not nothing" for check in checks.split()]:
                if rung == "ttsem" and check.startswith("check_offsets"):
                    continue
                fault = faults.Fault(rung, mutant.file, "", "", check)
                try:
                    passes, _ = faults.run_rung(fault, package, python)
                except RuntimeError:
                    return "does not run"
                if not passes:
                    return rung
    return ""


def main() -> int:
    """Runs the check; see above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", default="", help="only files of this name")
    parser.add_argument("--every", type=int, default=1, help="only every N-th mutant")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if options.file in ("", mutant.file)][:: options.every]
    survivors = 0
    for mutant in chosen:
        found = "" if options.list else killer(mutant)
        survivors += not found
        verdict = "" if options.list else found or "SURVIVED"
        print(f"{verdict:16} {mutant.file}.py:{mutant.line + 1} {mutant.what}: {mutant.new.strip()}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants found" if not options.list else f"{len(chosen)} mutants")
    return int(not options.list and (survivors > 0 or not chosen))


if __name__ == "__main__":
    sys.exit(main())
