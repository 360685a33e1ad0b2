"""The CUDA kernels' own source under sanitizers: out-of-bounds, misaligned and overflowing accesses, and races."""

from __future__ import annotations

import re

import pytest
from gpu import build, sanitizer, tiny

pytestmark = pytest.mark.gpu_ladder

SCHEDULES = {"plain": 4, "asan": 1, "tsan": 1}  # races are found whatever the schedule
PARTS = {"plain": 1, "asan": 1, "tsan": 2}  # processes that workers share


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("mode", "part"), [(mode, part) for mode, parts in PARTS.items() for part in range(parts)])
def test_tiny_cases(mode, part):
    """Every kernel, every branch of every launcher."""
    skipped = sanitizer.SKIPPED[mode]
    options = ("--schedules", str(SCHEDULES[mode]), "--skip", skipped, "--part", f"{part}/{PARTS[mode]}")
    done = sanitizer.run_tiny(build.emulated_library(mode), mode, *options)
    assert done.code == 0, done.output[-4000:]
    found = re.search(r"^(\d+) cases, 0 failed$", done.output, re.MULTILINE)
    assert found, done.output[-4000:]
    names = [name for number, (name, _) in enumerate(tiny.cases()) if number % PARTS[mode] == part]
    wanted = sum(not re.search(skipped, name) for name in names)
    assert int(found[1]) == SCHEDULES[mode] * wanted > 40, "cases were lost"
