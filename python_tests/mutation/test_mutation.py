"""The tables of planted faults stay true: places, operations and tests exist. `make mutation` plants them."""

from __future__ import annotations

import ast
import re

import mutation
import places
import pytest
from gpu import planted
from places import ROOT, Mark


@pytest.mark.parametrize("fault", mutation.FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_its_place_and_its_tests(fault):
    edit = places.change(fault.place, fault.operation)
    assert edit.new != edit.old
    if edit.file.endswith(".py"):
        ast.parse(edit.new)
    for test in fault.tests.split():
        file, _, name = test.partition("::")
        found = re.search(rf"^def {name}\(", (ROOT / "python_tests" / file).read_text(), re.MULTILINE)
        assert found, f"{test} does not exist"


def test_no_two_faults_share_a_name_or_an_edit():
    names = [fault.name for fault in mutation.FAULTS]
    assert len(set(names)) == len(names)
    edits = [places.change(fault.place, fault.operation) for fault in mutation.FAULTS]
    assert len(set(edits)) == len(edits)


def test_every_mark_is_of_a_fault():
    marked = [name for name, _, _ in places.marks()]
    assert len(set(marked)) == len(marked)
    assert set(marked) == {
        fault.place.name for fault in [*mutation.FAULTS, *planted.FAULTS.values()] if isinstance(fault.place, Mark)
    }


def test_there_are_faults_in_every_op():
    planted = {places.find(fault.place)[0] for fault in mutation.FAULTS}
    assert len(mutation.FAULTS) >= 15
    for source in (ROOT / "csrc" / "cpu").rglob("*.cpp"):
        if source.stem in ("alignment", "kernel_table", "cpu_dispatch"):  # thin: what they call has faults of its own
            continue
        assert str(source.relative_to(ROOT)) in planted, source.name
