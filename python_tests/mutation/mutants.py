"""Mutation checks: small edits of sources, one at a time, each of which some test must find.

`mutation.py` plants faults written by hand; the mutants here are made by rule, from patterns. What is under test brings
its operators, its files and a function that hunts one mutant:

    chosen = [mutant for path in paths for mutant in mutants_of(path, OPERATORS)]
    sys.exit(main(chosen, OPERATORS, hunt, stands_for, Path("build/mutants/NAME.json"), Path("equivalent.json")))

    def hunt(mutant: Mutant) -> str:
        mutant.plant(folder)  # a copy of the sources
        ...  # run the checks, quickest first, until one fails
        return "name of the check that found it"  # or "" if none did

The checks must pass on unchanged files, which is seen first: checks that fail anyway find every mutant. Results are
kept, so a run that was broken off goes on where it stopped; a mutant runs again when its file has changed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import cpp_nodes
import places

EQUIVALENT, SURVIVED = "equivalent", "SURVIVED"
Entry = dict[str, Any]  # of a file of equivalent mutants


class Operator(NamedTuple):
    """A pattern, what replaces it, and what that is called."""

    pattern: str
    replacement: str
    what: str


class Mutant(NamedTuple):
    """One change of one line."""

    path: Path
    line: int  # from 1
    old: str
    new: str
    what: str
    function: str = ""  # the qualified name; none outside of functions
    n: int = 1  # of the places of the operator in the function

    def text(self) -> str:
        """The file with the change."""
        lines = self.path.read_text().split("\n")
        assert lines[self.line - 1] == self.old, f"{self.path} has changed since its mutants were made"
        lines[self.line - 1] = self.new
        return "\n".join(lines)

    def is_that_of(self, entry: Entry) -> bool:
        """Whether an entry of ``equivalent`` describes this mutant."""
        described = (entry["file"], entry["function"], entry["operator"], entry["n"])
        return described == (self.path.name, self.function, self.what, self.n)

    def plant(self, folder: Path) -> None:
        """Overwrites the file of this name in a folder, which is a copy of the one it is from."""
        (folder / self.path.name).write_text(self.text())

    def key(self) -> str:
        """What a result is kept under: other code around the change may give another result."""
        return f"{self.path.name} {hashlib.sha256(self.text().encode()).hexdigest()[:16]}"

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line} {self.what}: {self.new.strip()}"


def unchanged(path: Path) -> Mutant:
    """A file as it is."""
    line = path.read_text().split("\n")[0]
    return Mutant(path, 1, line, line, "unchanged")


def mutants_of(
    path: Path, operators: Sequence[Operator], lines: Container[int] | None = None, comment: str = "#"
) -> Iterator[Mutant]:
    """Every place of every operator in a file, one occurrence at a time.

    Args:
        path: The file.
        operators: What to look for.
        lines: Numbers of the lines to change; all by default.
        comment: What follows this in a line stays as it is.
    """
    text, counts = path.read_text(), Counter[tuple[str, str]]()
    functions = function_of_lines(text, is_python=path.suffix == ".py")
    for number, line in enumerate(text.split("\n"), 1):
        if lines is not None and number not in lines:
            continue
        code, mark, remark = line.partition(comment)
        made = {line}
        for pattern, replacement, what in operators:
            for match in re.finditer(pattern, code):
                new = code[: match.start()] + match.expand(replacement) + code[match.end() :] + mark + remark
                function = functions.get(number, "")
                counts[function, what] += 1
                if new not in made:
                    made.add(new)
                    yield Mutant(path, number, line, new, what, function, counts[function, what])


def function_of_lines(text: str, *, is_python: bool) -> dict[int, str]:
    """The name of the function in which a line stands, from 1; of functions inside of functions, the inner one."""
    if is_python:
        spans = [(name, node.lineno, node.end_lineno or 0) for name, node in places.functions(ast.parse(text))]
    else:
        spans = cpp_nodes.functions(text)
    return {line: name for name, first, last in spans for line in range(first, last + 1)}


def main(
    mutants: Sequence[Mutant],
    operators: Sequence[Operator],
    hunt: Callable[[Mutant], str],
    stands_for: Callable[[Path], Path],
    results: Path,
    equivalent: Path,
) -> int:
    """Hunts them and prints a table.

    Args:
        mutants: All there are.
        operators: What they were made with; one that no longer changes anything is an error.
        hunt: The name of the check that finds a mutant, or ""; called by several threads with ``--jobs``.
        stands_for: The file to run unchanged for a file: the same for all that are hunted by the same checks.
        results: Where results are kept.
        equivalent: Reviewed data: a list of {"file", "function", "operator", "n", "why"} of mutants that no test can
            find, because they do the same as the original: the n-th place of the operator in the function.

    Returns:
        An exit code: 1 if a mutant survived, none was looked at, an unchanged file was "found", or an entry of
        ``equivalent`` or an operator is of no mutant.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", default="", help="only files whose name has this in it")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th mutant")
    parser.add_argument("--again", action="store_true", help="run those that survived before once more")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop then; the next run goes on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="hunt N mutants at a time")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    idle = {operator.what for operator in operators} - {mutant.what for mutant in mutants}
    same, stale = match_equivalent(mutants, json.loads(equivalent.read_text()) if equivalent.exists() else [])
    kept: dict[str, str] = json.loads(results.read_text()) if results.exists() else {}
    chosen = [mutant for mutant in mutants if options.file in mutant.path.name][:: options.every]
    found: dict[Mutant, str] = {}
    end = time.monotonic() + 60 * options.minutes
    writing = Lock()

    def look_at(mutant: Mutant) -> None:
        started = time.monotonic()
        if started > end and mutant.old != mutant.new:
            return
        verdict = hunt(mutant) or SURVIVED
        with writing:
            found[mutant] = kept[mutant.key()] = verdict
            results.parent.mkdir(parents=True, exist_ok=True)
            results.write_text(json.dumps(kept, indent=0))
            print(f"{verdict:<16} {time.monotonic() - started:5.0f} s  {mutant}", flush=True)

    left: list[Mutant] = []
    for mutant in chosen:
        verdict = kept.get(mutant.key(), "")
        if options.list:
            print(mutant)
        elif mutant in same:
            found[mutant] = EQUIVALENT
        elif verdict and not (options.again and verdict == SURVIVED):
            found[mutant] = verdict
        else:
            left.append(mutant)
    with ThreadPoolExecutor(options.jobs) as pool:
        originals = [unchanged(path) for path in sorted({stands_for(mutant.path) for mutant in left})]
        list(pool.map(look_at, [original for original in originals if kept.get(original.key()) != SURVIVED]))
        if wrong := [original for original in originals if found.pop(original, SURVIVED) != SURVIVED]:
            print("The checks fail on what is unchanged:", *wrong, sep="\n")
            return 1
        list(pool.map(look_at, left))
    if options.list:
        print(f"{len(chosen)} mutants")
        return 0
    print(table(chosen, found, len(mutants)))
    for entry in stale:
        print(f"{equivalent.name}: no mutant is this any more, or more than one: {entry}")
    for what in sorted(idle):
        print(f"{what}: this operator changes nothing any more")
    return int(bool(stale or idle) or not found or SURVIVED in found.values())


def match_equivalent(mutants: Sequence[Mutant], entries: list[Entry]) -> tuple[set[Mutant], list[str]]:
    """The mutants that the entries describe, and the entries that do not describe exactly one."""
    same, stale = set[Mutant](), []
    for entry in entries:
        described = [mutant for mutant in mutants if mutant.is_that_of(entry)]
        same.update(described)
        if len(described) != 1:
            stale.append("{file} {function}: {operator} {n}".format(**entry))
    return same, stale


def table(chosen: Sequence[Mutant], found: dict[Mutant, str], total: int) -> str:
    """Files by who found their mutants, then what survived."""
    verdicts = sorted(set(found.values()))
    width = max([len(mutant.path.name) for mutant in chosen], default=0)
    lines = [" ".join([f"{'':{width}} mutants", *(f"{verdict:>12}" for verdict in verdicts), "     not run"])]
    for name in [*sorted({mutant.path.name for mutant in chosen}), ""]:
        here = [mutant for mutant in chosen if name in ("", mutant.path.name)]
        counts = Counter(found.get(mutant, "") for mutant in here)
        numbers = [f"{counts[verdict]:>{max(12, len(verdict))}}" for verdict in [*verdicts, ""]]
        lines.append(" ".join([f"{name or 'all':{width}} {len(here):>7}", *numbers]))
    lines += [f"{SURVIVED} {mutant}" for mutant in chosen if found.get(mutant) == SURVIVED]
    caught = sum(verdict not in (EQUIVALENT, SURVIVED) for verdict in found.values())
    hunted = sum(verdict != EQUIVALENT for verdict in found.values())
    return "\n".join([*lines, f"{caught} of {hunted} mutants found; {len(found)} of all {total} looked at"])
