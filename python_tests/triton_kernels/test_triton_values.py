"""The Triton kernels' values in Triton's interpreter, which is chosen before Triton is imported: a process of its own.

What is about memory and types runs under ttsem instead (test_triton_ttsem.py); on a GPU, everything.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import run_ttsem
import rungs

pytestmark = pytest.mark.gpu_ladder


@pytest.mark.timeout(2 * rungs.SECONDS)
def test_in_the_interpreter(record_property):
    marked = rungs.MARKED["values"] if run_ttsem.environment() else ""
    run(record_property, "interpreter", *rungs.checks(str(rungs.HERE), marked=marked))


@pytest.mark.timeout(2 * rungs.SECONDS)
def test_every_element_is_read_as_often_as_designed(record_property):
    # in a run of its own: pytest drops a file that lies in a folder it was given, too
    run(record_property, "interpreter: reads", *rungs.checks(str(rungs.HERE / "interpreter_bytes.py")))


def run(record_property, rung, *arguments):
    returncode, output = rungs.run([sys.executable, "-m", "pytest", *arguments], TRITON_INTERPRET="1", DEV="cpu")
    assert rungs.verdict(returncode, output) == "", output[-6000:]
    rungs.report(record_property, rung, f"{rungs.count(output)['passed']} tests")
