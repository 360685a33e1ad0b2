"""The Triton kernels' values in Triton's interpreter, which is chosen before Triton is imported: a process of its own.

The same files run under ttsem (gpu_triton/run_ttsem.py), which also sees memory errors and races, and on a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

HERE = Path(__file__).parent / "gpu_triton"
FILES = [*sorted(path.name for path in HERE.glob("check_*.py")), "interpreter_bytes.py"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.timeout(900)
def test_in_the_interpreter(file):
    environment = os.environ | {"TRITON_INTERPRET": "1", "DEV": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(HERE / file)]
    done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-2000:]


def test_there_are_checks():
    assert len(FILES) >= 6
