"""Planted faults: each is caught by the rung that is there for it (gpu_triton/faults.py names them)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
sys.path.insert(0, str(Path(__file__).parent / "gpu_triton"))

import faults

TTSEM = Path(os.environ.get("MEMKERN_TTSEM", faults.ROOT / "build" / "ttsem")) / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", faults.FAULTS)
def test_caught(name):
    if faults.FAULTS[name].rung == "ttsem" and not TTSEM.exists():
        pytest.skip("needs ttsem's environment: run python_tests/gpu_triton/run_ttsem.py once")
    assert faults.caught(name, str(TTSEM) if faults.FAULTS[name].rung == "ttsem" else sys.executable) == ""


def test_every_rung_has_its_faults():
    assert {fault.rung for fault in faults.FAULTS.values()} == {"values", "ttsem", "lint", "budgets"}
    for fault in faults.FAULTS.values():
        source = (faults.ROOT / "memkern" / "triton_kernels" / f"{fault.file}.py").read_text()
        assert fault.old in source, fault
