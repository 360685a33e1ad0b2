"""The Triton checks of values: files named check_*, which only `interpreter` or ttsem may collect (see support.py)."""

from __future__ import annotations

import pytest
import torch

from memkern import testing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "check_*.py")


@pytest.fixture(params=testing.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
