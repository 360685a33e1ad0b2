"""The emulated CUDA kernels as a backend of memkern, so that the tests of the ops run on them unchanged."""

from __future__ import annotations

import importlib

import pytest
import torch
from gpu import emulated

from memkern import dispatch

TABLES = {
    ("alignment", "TABLE"): emulated.alignment,
    ("alignment", "BACKWARD_TABLE"): emulated.alignment_backward,
    ("unit_means", "TABLE"): emulated.unit_means,
    ("selectivity", "TABLE"): emulated.selectivity,
    ("layer_stats", "TABLE"): emulated.layer_stats,
    ("median_of_others", "TABLE"): emulated.median_of_others,
    ("class_sums", "TABLE"): emulated.class_sums,
}


def plug_in(patch: pytest.MonkeyPatch) -> None:
    """Makes ``backend="cuda"`` the emulated kernels, on CPU tensors."""
    for (stem, table), function in TABLES.items():
        patch.setitem(getattr(importlib.import_module(f"memkern.ops.{stem}"), table), "cuda", function)
    why_not = dispatch.why_not

    def reason(backend: str, device: torch.device) -> str:
        return "" if backend == "cuda" and device.type == "cpu" else why_not(backend, device)

    patch.setattr(dispatch, "why_not", reason)


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> str:
    """In place of the fixture of conftest.py: the one path is the emulated kernels."""
    plug_in(monkeypatch)
    return "cuda"


@pytest.fixture
def kernel(path: str) -> str:
    """In place of the fixture of that name."""
    return path
