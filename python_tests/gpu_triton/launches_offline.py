"""Triton launches without a GPU: what a host function would launch, and what the compiler makes of it.

Host functions are called with CPU tensors; their launches are recorded instead of run, then compiled for any GPU with
the very specialization (aligned pointers, multiples of 16, ones) that a launch of these arguments has.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
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


class Resources(NamedTuple):
    """What one program of a compiled kernel takes.

    Attributes:
        registers: Per thread.
        spills: Bytes of stack plus local loads and stores; on AMD spilled registers.
        shared: Bytes.
        loads: Instructions that load from global memory.
        wide_loads: Those of 128 bits or more.
    """

    registers: int
    spills: int
    shared: int
    loads: int
    wide_loads: int


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


def compiled(launch: Launch, target: str) -> Any:
    """The compiled kernel, with every intermediate form in ``.asm``."""
    launch.kernel.device_caches.clear()
    with _target(TARGETS[target]):
        return launch.kernel.warmup(*launch.arguments, grid=(1,), **launch.settings)


def resources(kernel: Any, target: str) -> Resources:
    """Reads registers, spills and loads off the machine code."""
    if TARGETS[target].backend == "hip":
        code = kernel.asm["amdgcn"]
        note = {name: int(value) for name, value in re.findall(r"\.(\w+):\s+(\d+)$", code, re.M)}
        loads = re.findall(r"\b(?:global|buffer|flat)_load_(\w+)", code)
        wide = sum(load.startswith("dwordx4") for load in loads)
        spills = note["vgpr_spill_count"] + note["sgpr_spill_count"]
        return Resources(note["vgpr_count"], spills, kernel.metadata.shared, len(loads), wide)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        code = _tool("nvdisasm", "-c", file.name)
    numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    ops = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", code, re.M)
    local = sum(op.startswith(("LDL", "STL")) for op in ops)
    loads = [op for op in ops if op.startswith("LDG")]
    wide = sum(".128" in op or ".256" in op or "ENL2" in op for op in loads)
    return Resources(
        numbers["REG"], numbers["STACK"] + numbers["LOCAL"] + local, kernel.metadata.shared, len(loads), wide
    )


def _tool(name: str, *arguments: str) -> str:
    """Runs one of NVIDIA's disassemblers, which come with Triton."""
    path = Path(os.path.dirname(triton.__file__), "backends/nvidia/bin", name)
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
