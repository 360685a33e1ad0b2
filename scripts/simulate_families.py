"""How often memkern.families is right, by simulation: prints the tables of docs/families.md.

    python scripts/simulate_families.py [PATTERN ...] [--runs R] [--list]

Rows are named by shell patterns ("halves*", "*one pair*"); without one, every row runs, which takes four minutes of one
processor. Seeded by name: a row gives the same numbers whichever other rows run. Lines are printed as they are made.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fnmatch import fnmatch

from family_simulation import images, means


def main(arguments: list[str] | None = None) -> None:
    """Simulates the rows that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="which rows: shell patterns of their names")
    parser.add_argument("--runs", type=int, help="families drawn of every row (at least 2), in place of its own number")
    parser.add_argument("--list", action="store_true", help="print the names of the rows alone")
    options = parser.parse_args(arguments)
    if options.runs is not None and options.runs < 2:
        parser.error(f"--runs: expected 2 or more families, got {options.runs}")

    def asked(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in options.patterns)

    rows = [row for row in images.rows() if asked(row.name)]
    checks = [check for check in means.checks() if asked(check.name)]
    if not rows and not checks:
        parser.error(f"no row is named like {' or '.join(options.patterns)}: see --list")
    if options.list:
        print("\n".join([row.name for row in rows] + [check.name for check in checks]))
        return
    for head, nothing in ((images.HEAD, False), (images.HEAD_NOTHING, True)):
        some = [row for row in rows if (row.world.share == 0) == nothing]
        show(head, (images.line(row, images.outcome(row, options.runs)) for row in some))
    show(means.HEAD, (means.line(check, *means.found_in(check, options.runs)) for check in checks))


def show(head: str, lines: Iterator[str]) -> None:
    """Prints a table, line by line, and a blank line; nothing if there is no line."""
    shown = False
    for line in lines:
        print(line if shown else f"{head}\n{line}", flush=True)
        shown = True
    if shown:
        print()


if __name__ == "__main__":
    main()
