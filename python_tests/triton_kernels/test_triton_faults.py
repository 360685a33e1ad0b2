"""Planted faults: each is caught by the rung that is there for it (gpu_triton/faults.py names them)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import faults
import forks
import mutated
import run_ttsem
import rungs

pytestmark = pytest.mark.gpu_faults


@pytest.fixture(scope="module")
def ground():
    with forks.grounds() as ground:
        yield ground


def of_its_rung(name):
    """Faults of one rung are planted by one worker, whose process has imported everything once."""
    return pytest.param(name, marks=pytest.mark.xdist_group(f"faults {faults.FAULTS[name].rung}"))


@pytest.mark.timeout(rungs.SECONDS)
@pytest.mark.parametrize("name", [of_its_rung(name) for name in faults.FAULTS])
def test_caught(name, ground, record_property):
    rung = faults.FAULTS[name].rung
    if rung == "ttsem" and run_ttsem.environment() is None:
        rungs.cannot_run(run_ttsem.MISSING)
    assert faults.caught(name, ground) == ""
    rungs.report(record_property, "faults", f"{rung:<8} caught {name!r}")


def test_every_class_of_faults_is_planted():
    named = [name for names in faults.CLASSES.values() for name in names]
    assert set(named) <= set(faults.FAULTS)
    assert {faults.FAULTS[name].rung for name in named} == {"values", "ttsem", "gate", "source"}


@pytest.mark.parametrize("name", faults.FAULTS)
def test_the_place_is_there(name):
    fault = faults.FAULTS[name]
    assert faults.change(fault.place, fault.operation).file.startswith("memkern/triton_kernels/")


def test_every_mutated_file_has_its_cases():
    """A renamed kernel must not empty what the gate compiles; every file with kernels is mutated."""
    budgets = json.loads((rungs.HERE / "budgets.json").read_text())
    for _, cases in mutated.CHECKS.values():
        assert [name for name in budgets if re.search(cases, name) and name.endswith("sm_90")], cases
    kernels = {path.stem for path in faults.KERNELS.glob("*.py") if "@triton.jit" in path.read_text()}
    assert kernels == set(mutated.CHECKS)
