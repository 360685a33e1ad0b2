"""docs/field.md: what users bring that the tests show to work, in one table made from the tests themselves.

A test says so by a marker, on itself or on a parameter: `@pytest.mark.field("checkpoint", "MAE, fine-tuned")`.
`python python_tests/helpers/field_page.py` collects all tests and writes the tables anew.
"""

import os
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from memkern._util.text import markdown_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "field.md"
KINDS = {
    "checkpoint": "Code bases whose checkpoints load",
    "encoder": "Encoders",
    "layers": "Architectures whose layers are compared with plain hooks",
    "data": "Images, labels and lists",
    "run": "Processes, clusters and accidents",
    "program": "Trainers, loggers and transforms of PyTorch",
    "package": "Installation",
}
"""Kind of what users bring -> the heading of its table, in the order of the page."""

TABLE = re.compile(r"<!-- field: (\w+) -->\n.*?<!-- end of field -->", re.DOTALL)
Row = tuple[str, str, str, bool]


def rows_of(items: Iterable[pytest.Item]) -> set[Row]:
    """Lists what the markers of tests say: kind, what, the file of the test, and whether it runs in `make test`."""
    found = set()
    for item in items:
        late = any(item.get_closest_marker(name) for name in ("long", "gpu_ladder", "gpu_faults"))
        for mark in item.iter_markers("field"):
            kind, what = mark.args
            found.add((kind, what, item.path.relative_to(ROOT).as_posix(), late))
    return found


def line(row: Row) -> str:
    """Writes the line of a row."""
    _, what, file, late = row
    shown_by = f"[{Path(file).name}](../{file}){', in `make long-check`' * late}"
    return markdown_table(("what", "shown by"), [(what, shown_by)]).splitlines()[2]


def page(text: str, rows: set[Row]) -> str:
    """Puts the tables of all kinds into the page."""

    def table(mark: re.Match[str]) -> str:
        lines = ["| what | shown by |", "| --- | --- |", *sorted(line(row) for row in rows if row[0] == mark[1])]
        return "\n".join([f"<!-- field: {mark[1]} -->", *lines, "<!-- end of field -->"])

    return TABLE.sub(table, text)


class Collector:
    """Plugin of pytest that keeps the rows of the collected tests."""

    def __init__(self) -> None:
        self.rows: set[Row] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sees all tests, before those of other commands are deselected."""
        self.rows = rows_of(items)


if __name__ == "__main__":
    collector = Collector()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        code = pytest.main(["--collect-only", "-q", str(ROOT / "python_tests")], [collector])
    if code:
        sys.exit(f"pytest could not collect the tests: exit code {code}")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), collector.rows), encoding="utf-8")
