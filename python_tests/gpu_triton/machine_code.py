"""What compiled Triton kernels take, read off their machine code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import cubins

# A line of machine code that holds an instruction: its name, and what follows.
NVIDIA = r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ +)?([A-Z0-9_.]+)(.*)"
AMD = r"\t([a-z]\w+)\b(.*)"


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


def resources(kernels: list[Any]) -> list[Resources]:
    """Of kernels that were compiled for one GPU."""
    if not kernels:
        return []
    return [_on_amd(kernel) for kernel in kernels] if "amdgcn" in kernels[0].asm else list(_on_nvidia(kernels))


def _on_amd(kernel: Any) -> Resources:
    code = kernel.asm["amdgcn"]
    note = {name: int(value) for name, value in re.findall(r"\.(\w+):\s+(\d+)$", code, re.M)}
    counts = _counts(code, AMD, r"(global|buffer|flat)_load", r"(global|buffer|flat)_load_dwordx4", r"scratch_")
    return _resources(kernel, note["vgpr_count"], note["private_segment_fixed_size"], note["sgpr_spill_count"], counts)


def _on_nvidia(kernels: list[Any]) -> Iterator[Resources]:
    arch = re.search(r"^\.target sm_(\w+)", kernels[0].asm["ptx"], re.M)
    assert arch
    codes = [code for kernel in kernels for code in cubins.kernels(kernel.asm["cubin"]).values()]
    listings = disassembled(codes, f"SM{arch[1]}")
    with tempfile.TemporaryDirectory() as folder:
        for kernel, code in zip(kernels, listings, strict=True):
            (file := Path(folder, "kernel.cubin")).write_bytes(kernel.asm["cubin"])
            command = [_path("cuobjdump"), "-res-usage", file]
            usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
            counts = _counts(code, NVIDIA, r"LDG", r"LDG.*(\.128|\.256|ENL2)", r"LDL|STL")
            yield _resources(kernel, numbers["REG"], numbers["STACK"] + numbers["LOCAL"], 0, counts)


def _resources(kernel: Any, registers: int, stack: int, lanes: int, counts: tuple[int, int, int, int]) -> Resources:
    loads, wide, spills, inner_spills = counts
    return Resources(registers, kernel.metadata.shared, loads, wide, stack + spills, inner_spills, lanes)


def _counts(code: str, pattern: str, is_load: str, is_wide: str, is_spill: str) -> tuple[int, int, int, int]:
    ops, inner = instructions(code, pattern)
    loads, wide, spills = (sum(bool(re.match(kind, op)) for op in ops) for kind in (is_load, is_wide, is_spill))
    return loads, wide, spills, sum(bool(re.match(is_spill, ops[at])) for at in inner)


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


def disassembled(codes: list[bytes], arch: str) -> list[str]:
    """The machine code of kernels as text, each jump to a label .L...

    Args:
        codes: The instructions of one kernel each.
        arch: As nvdisasm calls it, SM90a say.
    """
    # Raw code has no labels: a jump is to an address.
    jump = re.compile(r"(\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ +)?BRA\S* .*?)\b0x([0-9a-f]+)(?= *;)")
    listings = cubins.disassembled(codes, arch, _path("nvdisasm"))
    targets = {int(found[2], 16) for lines in listings for line in lines if (found := jump.match(line))}
    labelled = []
    for lines in listings:
        out: list[str] = []
        for line in lines:
            address = int(line.partition("/*")[2].partition("*/")[0], 16)
            out += [f".L_{address:x}:"] * (address in targets)
            out.append(jump.sub(r"\1.L_\2", line))
        labelled.append("\n".join(out))
    return labelled


def _path(tool: str) -> Path:
    """One of NVIDIA's disassemblers, which come with Triton."""
    return Path(os.path.dirname(triton.__file__), "backends/nvidia/bin", tool)
