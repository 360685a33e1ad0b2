"""The Triton checks of values: files named check_*, which only `interpreter` or ttsem may collect (see support.py)."""

from __future__ import annotations

import functools
import importlib
import sys

import pytest
import torch

from memkern import dispatch, testing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "check_*.py")
    config.addinivalue_line(
        "markers", "numbers: about values, whatever the memory; the others are about memory and types"
    )
    if "ttsem" in sys.modules:  # parses at every launch, a third of its time, what other checks have launched before
        mlir = importlib.import_module("ttsem.mlir")
        mlir.parse = functools.lru_cache(maxsize=64)(mlir.parse)


@pytest.fixture(params=testing.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True)
def inside_ttsem(monkeypatch: pytest.MonkeyPatch) -> None:
    """ttsem calls its tensors "cuda" except inside an op or a backward, where memkern asks where they are."""
    if "ttsem" in sys.modules:
        why_not = dispatch.why_not
        monkeypatch.setattr(
            dispatch, "why_not", lambda backend, device: "" if backend == "triton" else why_not(backend, device)
        )
