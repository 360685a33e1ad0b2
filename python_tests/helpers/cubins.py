"""Machine code of NVIDIA's GPUs as text, for both ladders.

nvdisasm needs half a second to start, whatever it reads, and takes raw code in half the time that it takes an ELF file:
the kernels of one GPU are disassembled together.
"""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def kernels(cubin: bytes) -> dict[str, bytes]:
    """By mangled name the instructions of each kernel in an ELF file of 64 bits: its sections .text.NAME."""
    (table,), (size, count, names) = struct.unpack_from("<Q", cubin, 40), struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + n * size) for n in range(count)]
    found = {}
    for offset_of_name, _, _, _, offset, length in sections:
        at = sections[names][4] + offset_of_name
        name = cubin[at : cubin.index(b"\0", at)].decode()
        if name.startswith(".text."):
            found[name.removeprefix(".text.")] = cubin[offset : offset + length]
    return found


def disassembled(codes: Sequence[bytes], arch: str, nvdisasm: str | Path) -> list[list[str]]:
    """The lines of each kernel that hold an instruction, with its address, counted over all of them.

    Args:
        codes: The instructions of one kernel each.
        arch: As nvdisasm calls it, SM90a say.
        nvdisasm: The program.
    """
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, "code")).write_bytes(b"".join(codes))
        command = [nvdisasm, "--binary", arch, "--no-dataflow", file]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ends = list(itertools.accumulate(map(len, codes)))
    listings: list[list[str]] = [[] for _ in codes]
    n = 0
    for line in lines:
        if place := re.match(r"\s+/\*([0-9a-f]+)\*/", line):
            while int(place[1], 16) >= ends[n]:
                n += 1
            listings[n].append(line)
    assert all(listings), "nvdisasm left a kernel out"
    return listings
