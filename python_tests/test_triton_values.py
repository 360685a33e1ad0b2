"""The Triton kernels' values in Triton's interpreter, which is chosen before Triton is imported: a process of its own.

The same files run under ttsem (test_triton_ttsem.py), which also sees memory errors and races, and on a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "gpu_triton"))

import rungs

FILES = [*sorted(path.name for path in rungs.HERE.glob("check_*.py")), "interpreter_bytes.py"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.timeout(rungs.SECONDS)
def test_in_the_interpreter(file, record_property):
    try:
        import triton  # noqa: F401
    except ImportError as error:
        rungs.cannot_run(str(error))
    command = [sys.executable, "-m", *rungs.pytest_arguments(str(rungs.HERE / file))]
    returncode, output = rungs.run(command, TRITON_INTERPRET="1", DEV="cpu")
    assert rungs.verdict(returncode, output) == "", output[-6000:]
    rungs.report(record_property, "interpreter", f"{file}: {rungs.count(output)['passed']} tests")


def test_there_are_checks():
    assert len(FILES) >= 7
