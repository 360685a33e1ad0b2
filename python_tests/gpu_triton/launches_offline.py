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


# A line of machine code that holds an instruction: its name, and what follows.
NVIDIA = r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ +)?([A-Z0-9_.]+)(.*)"
AMD = r"\t([a-z]\w+)\b(.*)"


class Launch(NamedTuple):
    kernel: Any
    arguments: tuple[Any, ...]
    settings: dict[str, Any]


class Resources(NamedTuple):
    """What one program of a compiled kernel takes.

    Attributes:
        registers: Per thread.
        shared: Bytes.
        loads: Instructions that load from global memory.
        wide_loads: Those of 128 bits or more.
        spills: Bytes of stack, plus the instructions that load and store there.
        inner_spills: Those of these instructions that lie in an innermost loop.
        lanes: AMD only: scalar registers that were put into lanes of vector registers, which takes no memory.
    """

    registers: int
    shared: int
    loads: int
    wide_loads: int
    spills: int
    inner_spills: int
    lanes: int


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
        ops, inner = instructions(code, AMD)
        registers, stack, lanes = note["vgpr_count"], note["private_segment_fixed_size"], note["sgpr_spill_count"]
        is_load, is_wide, is_spill = r"(global|buffer|flat)_load", r"(global|buffer|flat)_load_dwordx4", r"scratch_"
    else:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(kernel.asm["cubin"])
            file.flush()
            usage = _tool("cuobjdump", "-res-usage", file.name)
            code = _tool("nvdisasm", "-c", file.name)
        ops, inner = instructions(code, NVIDIA)
        numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
        registers, stack, lanes = numbers["REG"], numbers["STACK"] + numbers["LOCAL"], 0
        is_load, is_wide, is_spill = r"LDG", r"LDG.*(\.128|\.256|ENL2)", r"LDL|STL"
    loads, wide, spills = (sum(bool(re.match(kind, op)) for op in ops) for kind in (is_load, is_wide, is_spill))
    inner_spills = sum(bool(re.match(is_spill, ops[at])) for at in inner)
    return Resources(registers, kernel.metadata.shared, loads, wide, stack + spills, inner_spills, lanes)


def instructions(code: str, pattern: str) -> tuple[list[str], list[int]]:
    """The instructions of machine code as text, and the places of those in innermost loops.

    A loop is what lies between a label and a jump back to it: sometimes more than the loop, never less.

    Args:
        code: As a disassembler prints it, with labels .L...
        pattern: NVIDIA or AMD.
    """
    names: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in code.splitlines():
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = len(names)
        elif found := re.match(pattern, line):
            to = re.search(r"\.L\w+", found[2])
            if to and to[0] in labels and re.match("s_c?branch|BRA", found[1]):
                loops.append((labels[to[0]], len(names)))
            names.append(found[1])
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return names, [at for first, last in inner for at in range(first, last + 1)]


def _tool(name: str, *arguments: str) -> str:
    """Runs one of NVIDIA's disassemblers, which come with Triton."""
    path = Path(os.path.dirname(triton.__file__), "backends/nvidia/bin", name)
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
