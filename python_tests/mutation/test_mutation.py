"""The table of planted faults stays true: texts, files and tests exist. `make mutation` plants them."""

from __future__ import annotations

import re

import mutation
import pytest


@pytest.mark.parametrize("fault", mutation.FAULTS, ids=lambda fault: f"{fault.file}-{fault.text.strip()[:30]}")
def test_planted_text_stands_there_once(fault):
    source = (mutation.ROOT / fault.file).read_text()
    assert source.count(fault.text) == 1
    assert fault.text != fault.replacement
    for test in fault.tests.split():
        file, _, name = test.partition("::")
        found = re.search(rf"^def {name}\(", (mutation.ROOT / "python_tests" / file).read_text(), re.MULTILINE)
        assert found, f"{test} does not exist"


def test_there_are_faults_in_every_op():
    planted = {fault.file for fault in mutation.FAULTS}
    assert len(mutation.FAULTS) >= 15
    for source in (mutation.ROOT / "csrc" / "cpu").rglob("*.cpp"):
        if source.stem in ("alignment", "kernel_table", "cpu_dispatch"):  # thin: what they call has faults of its own
            continue
        assert str(source.relative_to(mutation.ROOT)) in planted, source.name
