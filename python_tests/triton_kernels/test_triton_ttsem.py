"""The checks under ttsem: every access inside its tensor, no race between programs, nothing read unwritten."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import run_ttsem
import rungs

pytestmark = pytest.mark.gpu_ladder


@pytest.mark.timeout(2 * rungs.SECONDS)
def test_under_ttsem(record_property):
    python = run_ttsem.environment()
    if python is None:
        rungs.cannot_run(run_ttsem.MISSING)
    returncode, output = rungs.run(run_ttsem.command(python, []), DEV="cuda")
    assert rungs.verdict(returncode, output) == "", output[-6000:]
    rungs.report(record_property, "ttsem", f"{rungs.count(output)['passed']} tests")


@pytest.mark.parametrize(
    ("returncode", "output", "wrong"),
    [
        (0, "...\n3 passed in 1.00s", ""),
        (0, "...\n11 skipped in 1.00s", "no test passed"),  # what ttsem's xdist workers say
        (0, "...\n3 passed, 1 skipped in 1.00s", "1 tests were skipped"),
        (1, "...\n1 failed, 3 passed in 1.00s", "pytest ended with 1"),
        (1, "...\n3 passed, 1 error in 1.00s", "pytest ended with 1"),
        (-11, "...", "no test passed"),
        (0, "", "no test passed"),
    ],
)
def test_a_rung_that_ran_nothing_has_not_passed(returncode, output, wrong):
    assert rungs.verdict(returncode, output) == wrong


def test_a_rung_that_cannot_run_fails_in_ci(monkeypatch):
    monkeypatch.setattr(rungs, "IN_CI", False)
    with pytest.raises(pytest.skip.Exception, match="this rung did not run: no tool"):
        rungs.cannot_run("no tool")
    monkeypatch.setattr(rungs, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="this rung did not run: no tool"):
        rungs.cannot_run("no tool")
