"""Planted faults: each is caught by the rung that is there for it (gpu_triton/faults.py names them)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
sys.path.insert(0, str(Path(__file__).parent / "gpu_triton"))

import faults
import run_ttsem
import rungs


@pytest.mark.timeout(rungs.SECONDS)
@pytest.mark.parametrize("name", faults.FAULTS)
def test_caught(name, record_property):
    rung, python = faults.FAULTS[name].rung, Path(sys.executable)
    if rung == "ttsem":
        found = run_ttsem.installed()
        if found is None:
            rungs.cannot_run("ttsem has no environment; `python python_tests/gpu_triton/run_ttsem.py` makes one")
        python = found
    assert faults.caught(name, str(python)) == ""
    rungs.report(record_property, "faults", f"{rung:<8} caught {name!r}")


def test_every_rung_has_its_faults():
    assert {fault.rung for fault in faults.FAULTS.values()} == {"values", "ttsem", "lint", "budgets"}
    for fault in faults.FAULTS.values():
        source = (rungs.ROOT / "memkern" / "triton_kernels" / f"{fault.file}.py").read_text()
        assert fault.old in source, fault
