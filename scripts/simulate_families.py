"""How often memkern.families is right, by simulation: prints the tables of docs/families.md.

    python scripts/simulate_families.py [PATTERN ...] [--runs R] [--list]

Rows are named by shell patterns ("halves*", "*one pair*"); without one, every row runs, which takes half an hour of one
processor. Seeded: a row gives the same numbers whichever other rows run. A row ends with its line, so a long run can be
watched.
"""

from __future__ import annotations

import argparse
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
    if rows:
        print(images.HEAD, flush=True)
    for row in rows:
        print(images.line(row, images.outcome(row, options.runs)), flush=True)
    if checks:
        print(f"\n{means.HEAD}" if rows else means.HEAD, flush=True)
    for check in checks:
        print(means.line(check, *means.found_in(check, options.runs)), flush=True)


if __name__ == "__main__":
    main()
