"""The Triton checks of values: files named check_*, which only `interpreter` or ttsem may collect (see support.py)."""

from __future__ import annotations

import inside_ttsem
import pytest
import torch

from memkern import dispatch
from python_tests.helpers import testing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "check_*.py")
    config.addinivalue_line(
        "markers", "numbers: about values, whatever the memory; the others are about memory and types"
    )
    if inside_ttsem.running():
        inside_ttsem.quicken()


@pytest.fixture(params=testing.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True)
def tensors_of_ttsem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Triton kernels take them wherever they say that they are."""
    if inside_ttsem.running():
        monkeypatch.setattr(dispatch, "why_not", inside_ttsem.why_not)
