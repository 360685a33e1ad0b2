"""Mutation check of the Triton ladder: changes the kernels one place at a time; every mutant must be found.

python hunt_mutants.py [--file NAME] [--every N] [--minutes M] [--jobs N] [--again] [--list]

The interpreter's checks come first, then ttsem's where it is installed, then what the compiler says (lints, budgets);
of the checks, those that have found most in least time (quick_first.py).
Takes from two seconds to a minute per mutant; results are kept in build/mutants/, `equivalent.json` holds the mutants
that do the same as the original, with the reason.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import faults
import forks
import mutants
import mutated
import run_ttsem
import rungs

OPERATORS = [
    mutants.Operator(*operator)
    for operator in (
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
        (r"(?<!a)range\(0, ", "range(1, ", "the first left out"),
        (r"tl\.minimum", "tl.maximum", "larger instead of smaller"),
        (r"tl\.where\(([^(),]+), ", r"tl.where(~(\1), ", "the other way round"),
        (r"tl\.cast\(tl\.program_id\(0\), tl\.int64\)", "tl.program_id(0)", "32-bit program"),
        (r"\.to\(tl\.float64\)", ".to(tl.float32)", "narrow sum"),
    )
]


def kernel_lines(path: Path) -> Iterator[int]:
    """The lines of statements inside the functions that Triton compiles, docstrings apart, counted from 1."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(d) for d in node.decorator_list):
            for statement in node.body:
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                    assert statement.end_lineno is not None
                    yield from range(statement.lineno, statement.end_lineno + 1)


def all_mutants() -> list[mutants.Mutant]:
    """Every place of every operator inside of the kernels."""
    paths = [faults.KERNELS / f"{stem}.py" for stem in mutated.CHECKS]
    return [
        mutant
        for path in paths
        for mutant in mutants.mutants_of(path, OPERATORS, set(kernel_lines(path)), comment="  #")
    ]


def hunt(mutant: mutants.Mutant, ground: Callable[[str], forks.Ground]) -> str:
    """The rung that finds a mutant, or an empty string."""
    names, cases = mutated.CHECKS[mutant.path.stem]
    checks = ["-k", mutated.ABOUT.get(mutant.path.stem, ""), *(f"{rungs.HERE}/{name}.py" for name in names.split())]
    bytes_read = [] if mutant.path.stem.startswith("views") else [f"{rungs.HERE}/interpreter_bytes.py"]
    history = rungs.ROOT / "build" / "mutants" / "triton" / mutant.path.stem
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        faults.copy_kernels(folder)
        mutant.plant(folder / "triton_kernels")
        for rung in ("values", "ttsem", "gate"):
            if rung == "ttsem" and run_ttsem.installed() is None:
                continue
            marked = rungs.MARKED.get(rung, "")
            files = [*checks, *bytes_read * (rung == "values")]
            first = ["-p", "quick_first", "--history", str(history.with_suffix(f".{rung}"))]
            arguments = rungs.checks("-x", *first, *files, marked=marked)
            if rung == "gate":
                arguments = ["--target", "sm_90", "--only", cases]
            outcome = ground(rung).run(folder, arguments)
            if outcome.code not in (0, 5):  # 5: no check of this rung is about the file
                return rung
    return ""


def main() -> int:
    """Runs the check; see above."""
    with forks.grounds() as ground:
        return mutants.main(
            all_mutants(), OPERATORS, lambda mutant: hunt(mutant, ground), lambda path: path,
            rungs.ROOT / "build" / "mutants" / "triton.json", rungs.HERE / "equivalent.json",
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
