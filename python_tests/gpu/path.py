"""The CUDA kernels under host emulation as a backend of memkern, so that the tests of the ops run on them unchanged.

Everything between the public function and the kernel is what runs on a GPU: dispatch, the rows of the backend tables,
the bindings, the launchers. Only the device, the stream and the scratch memory are the CPU's.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu import build, emulated
from torch import Tensor

from memkern import dispatch, native


@functools.cache
def bindings() -> Any:
    """The submodule ``cuda`` of memkern._native, over emulated kernels."""
    return load(build.bindings(build.emulated_library()))


def load(path: Path) -> Any:
    """The submodule ``cuda`` of a module that build.bindings made."""
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cuda


def launch_context(x: Tensor) -> Any:
    """In place of ``native.cuda_launch_context``: the emulated device, no stream, scratch memory full of NaN."""
    assert x.device.type == "cpu"
    scratch = []

    def allocate(size: int) -> int:
        scratch.append(emulated.scratch_memory(size))
        return scratch[-1].data_ptr()

    return bindings().LaunchContext(0, 0, allocate)


def plug_in(patch: pytest.MonkeyPatch) -> None:
    """Makes ``backend="cuda"`` the emulated kernels, on CPU tensors."""
    patch.setattr(native, "cuda", bindings)
    patch.setattr(native, "cuda_launch_context", launch_context)
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
