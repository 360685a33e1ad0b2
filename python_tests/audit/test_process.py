"""An audit that a program runs leaves the program's process as it was; only the command sets a process up."""

from __future__ import annotations

import ctypes
import os
import random
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch

from memkern.audit import dry_run, run_audit
from memkern.audit import process as process_settings


def state_of_the_process() -> dict[str, Any]:
    """Everything that holds for a whole process and that an audit might be tempted to set."""
    numpy_state = np.random.get_state()
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "products": (torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled),
        "python's random numbers": random.getstate(),
        "numpy's random numbers": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        "torch's random numbers": torch.get_rng_state().tolist(),
    }


SETTERS = {"mallopt", "malloc_trim", "setenv", "putenv", "unsetenv"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions of C libraries that are looked up; none that sets the allocator is called."""
    names: list[str] = []

    class Spy(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            names.append(name)
            return (lambda *given: 1) if name in SETTERS else super().__getattr__(name)

    monkeypatch.setattr(ctypes, "CDLL", Spy)
    return names


@pytest.mark.parametrize("reference", [True, False])
def test_an_audit_in_a_program_changes_nothing_of_the_process(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, reference: bool
) -> None:
    options = audit_helpers.options(tmp_path, images=True, **({} if reference else {"reference": None}))
    called: list[str] = []
    for name in ("set_up_process", "use_huge_pages", "keep_freed_memory"):
        monkeypatch.setattr(process_settings, name, lambda name=name: called.append(name))
    before = state_of_the_process()
    dry_run(options)
    run_audit(options)
    after = state_of_the_process()
    for name, value in before.items():
        assert after[name] == value, name
    assert not called
    assert not SETTERS & set(asked)


def test_what_the_test_above_would_see(asked: list[str]) -> None:
    kept = process_settings.keep_freed_memory()
    assert ("mallopt" in asked) == kept
