"""The CUDA kernels' own source under sanitizers: out-of-bounds, misaligned and overflowing accesses, and races."""

from __future__ import annotations

import re

import pytest
from gpu import build, sanitizer, tiny


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("mode", ["plain", "asan", "tsan"])
def test_tiny_cases(mode):
    """Every kernel, every branch of every launcher; races are found whatever the schedule, so one is enough."""
    schedules = {"plain": 4, "asan": 1, "tsan": 1}[mode]
    # The two 16-bit types differ in how a register is widened, which no sanitizer sees; where threads meet does not
    # depend on the type.
    skipped = {"plain": "nothing", "asan": " float16", "tsan": "float16|many points"}[mode]
    parts = {"plain": 1, "asan": 1, "tsan": 16}[mode]  # TSan gives up at 8128 threads of a process
    ran = 0
    for part in range(parts):
        options = ("--schedules", str(schedules), "--skip", skipped, "--part", f"{part}/{parts}")
        done = sanitizer.run_tiny(build.emulated_library(mode), mode, *options)
        assert done.code == 0, done.output[-4000:]
        found = re.search(r"^(\d+) cases, 0 failed$", done.output, re.MULTILINE)
        assert found, done.output[-4000:]
        ran += int(found[1])
    wanted = sum(not re.search(skipped, name) for name, _ in tiny.cases())
    assert ran == schedules * wanted > 150, "cases were lost"
