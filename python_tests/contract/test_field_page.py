"""docs/field.md says what the markers of the tests say, no more and no less."""

import re

import pytest

from python_tests.conftest import FIELD_ROWS
from python_tests.helpers import field_page

TEXT = field_page.PAGE.read_text(encoding="utf-8")
ANEW = "python python_tests/helpers/field_page.py writes the tables anew"


def test_page_has_the_rows_of_the_tests(request: pytest.FixtureRequest) -> None:
    """A run of some files compares the rows of these."""
    rows = request.config.stash[FIELD_ROWS]
    lines = {field_page.line(row) for row in rows}
    files = {row[2] for row in rows}
    of_files = {line for line in TEXT.splitlines() if any(f"](../{file})" in line for file in files)}
    assert of_files == lines, ANEW


def test_page_names_files_that_exist() -> None:
    files = re.findall(r"\]\(\.\./(python_tests/.*?)\)", TEXT)
    assert files
    assert all((field_page.ROOT / file).is_file() for file in files), ANEW


def test_every_kind_has_a_table() -> None:
    assert [mark[1] for mark in field_page.TABLE.finditer(TEXT)] == list(field_page.KINDS)
    assert all(f"## {heading}\n" in TEXT for heading in field_page.KINDS.values())


def test_rows_are_of_known_kinds(request: pytest.FixtureRequest) -> None:
    assert {row[0] for row in request.config.stash[FIELD_ROWS]} <= set(field_page.KINDS)
