"""Triton launches without a GPU: what a host function would launch, and what the compiler makes of it.

Host functions are called with CPU tensors; their launches are recorded instead of run, then compiled for any GPU with
the very specialization (aligned pointers, multiples of 16, ones) that a launch of these arguments has.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


class Launch(NamedTuple):
    kernel: Any
    arguments: tuple[Any, ...]
    settings: dict[str, Any]


class _Driver:
    """As much of a driver as compiling asks for."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, name: str) -> str:
        return name


@contextlib.contextmanager
def _target(target: GPUTarget) -> Iterator[None]:
    driver.set_active(_Driver(target))
    try:
        yield
    finally:
        driver._active = None


def launches(call: Callable[[], object], target: str) -> list[Launch]:
    """What a host function launches on such a GPU."""
    recorded: list[Launch] = []

    def record(kernel: Any, *arguments: Any, grid: object, warmup: bool, **settings: Any) -> None:
        recorded.append(Launch(kernel, arguments, settings))

    hip = "0.0" if TARGETS[target].backend == "hip" else None
    with mock.patch.object(JITFunction, "run", record), mock.patch.object(torch.version, "hip", hip):
        call()
    return recorded


def compiled(launch: Launch, target: str, like: Any = None) -> Any:
    """The compiled kernel, with every intermediate form in ``.asm``.

    Args:
        launch: What to compile.
        target: For which GPU.
        like: The same launch, compiled for another GPU of NVIDIA: up to its TTIR, which is taken over, the compiler
            does not ask for which.
    """
    launch.kernel.device_caches.clear()
    with _target(TARGETS[target]):
        if like is None:
            return launch.kernel.warmup(*launch.arguments, grid=(1,), **launch.settings)
        with tempfile.TemporaryDirectory() as folder:
            (file := Path(folder, "kernel.ttir")).write_text(like.asm["ttir"])
            return triton.compile(str(file), TARGETS[target], launch.settings)
