"""The ladder itself under test: every class of fault, planted in the kernels, is found by the rung that is named."""

from __future__ import annotations

import pytest
from gpu import planted
from places import change

pytestmark = pytest.mark.gpu_faults


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", planted.FAULTS)
def test_planted_fault_is_found(name, tmp_path):
    fault = planted.FAULTS[name]
    said = planted.findings(fault, tmp_path)
    assert said, f"the {fault.rung} rung passes with this fault"
    assert planted.is_found(fault, said), said[-3000:]


@pytest.mark.parametrize("name", planted.FAULTS)
def test_faults_can_still_be_planted(name):
    fault = planted.FAULTS[name]
    assert change(fault.place, fault.operation).file.startswith("csrc/")
