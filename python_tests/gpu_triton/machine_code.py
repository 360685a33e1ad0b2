"""What compiled Triton kernels take, read off their machine code.

nvdisasm needs half a second to start, whatever it reads: kernels are disassembled together, the 71 of one GPU in 2 s of
a processor instead of 40.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton

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
    listings = disassembled([kernel.asm["cubin"] for kernel in kernels], f"SM{arch[1]}")
    with tempfile.TemporaryDirectory() as folder:
        for kernel, code in zip(kernels, listings, strict=True):
            (file := Path(folder, "kernel.cubin")).write_bytes(kernel.asm["cubin"])
            usage = _tool("cuobjdump", "-res-usage", str(file))
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


def disassembled(cubins: list[bytes], arch: str) -> list[str]:
    """The machine code of kernels as text, each jump to a label .L...

    Args:
        cubins: One kernel each.
        arch: As nvdisasm calls it, SM90a say.
    """
    codes = [_code(cubin) for cubin in cubins]
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, "code")).write_bytes(b"".join(codes))
        lines = _tool("nvdisasm", "--binary", arch, "--no-dataflow", str(file)).splitlines()
    # Raw code has no labels: a jump is to an address.
    jump = re.compile(r"(\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ +)?BRA\S* .*?)\b0x([0-9a-f]+)(?= *;)")
    targets = {int(found[2], 16) for line in lines if (found := jump.match(line))}
    ends = list(itertools.accumulate(map(len, codes)))
    listings: list[list[str]] = [[] for _ in codes]
    n = 0
    for line in lines:
        if not (place := re.match(r"\s+/\*([0-9a-f]+)\*/", line)):
            continue
        address = int(place[1], 16)
        n += address >= ends[n]
        if address in targets:
            listings[n].append(f".L_{address:x}:")
        listings[n].append(jump.sub(r"\1.L_\2", line))
    assert all(listings), "nvdisasm left a kernel out"
    return ["\n".join(listing) for listing in listings]


def _code(cubin: bytes) -> bytes:
    """The instructions of the one kernel in an ELF file of 64 bits: its section .text.NAME."""
    (table,), (size, count, names) = struct.unpack_from("<Q", cubin, 40), struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + n * size) for n in range(count)]
    (found,) = (s for s in sections if cubin.startswith(b".text.", sections[names][4] + s[0]))
    return cubin[found[4] : found[4] + found[5]]


def _tool(name: str, *arguments: str) -> str:
    """Runs one of NVIDIA's disassemblers, which come with Triton."""
    path = Path(os.path.dirname(triton.__file__), "backends/nvidia/bin", name)
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
