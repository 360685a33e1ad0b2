"""What the compiled kernels are made of: registers, spills, shared memory, and their loads by width."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpu import build


def tool(name: str) -> str | None:
    """The path of cuobjdump or nvdisasm: from the toolkit, or from Triton's wheel; None without either."""
    import triton

    wheel = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin") or shutil.which(name, path=str(wheel))


def short(mangled: str) -> str:
    """``_ZN7memkern9pair_sumsIfLi10EEEv...`` -> ``pair_sums<float, 10>``."""
    text = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    text = re.sub(r"\(int\)|memkern::|^void ", "", text)
    return re.sub(r">*\(.*", "", text) + (">" if "<" in text.split("(")[0] else "")


def resources(log: str) -> dict[tuple[int, str], dict[str, int]]:
    """What ``ptxas -v`` said, by architecture and kernel.

    Args:
        log: The compiler's output.

    Returns:
        registers, spill (bytes of spill stores and loads), stack (bytes) and shared (bytes).
    """
    pattern = (
        r"Compiling entry function '(\S+)' for 'sm_(\d+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
    )
    found = {}
    for name, arch, stack, stores, loads, registers, rest in re.findall(pattern, log, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", rest)
        found[int(arch), short(name)] = {
            "registers": int(registers),
            "stack": int(stack),
            "spill": int(stores) + int(loads),
            "shared": int(shared[1]) if shared else 0,
        }
    return found


def loads(objects: Path) -> Iterator[tuple[int, str, dict[str, int]]]:
    """Loads from and stores to global memory of every kernel of an object, from its machine code.

    Yields:
        Architecture, kernel, and how many instructions: loads, wide_loads (16 bytes or more), stores, wide_stores.
    """
    cuobjdump, nvdisasm = tool("cuobjdump"), tool("nvdisasm")
    assert cuobjdump
    assert nvdisasm
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cuobjdump, "-xelf", "all", str(objects)], cwd=folder, check=True, capture_output=True)
        for cubin in sorted(Path(folder).glob("*.cubin")):
            arch = re.search(r"sm_(\d+)", cubin.name)
            assert arch
            listing = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
            for part in re.split(r"(?=\.section\s+\.text\.)", listing)[1:]:
                name = re.match(r"\.section\s+\.text\.([^,]+)", part)
                operations = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", part, re.MULTILINE)
                assert name
                yield int(arch[1]), short(name[1]), count(operations)


def count(operations: list[str]) -> dict[str, int]:
    """Counts instructions by their names."""

    def matching(pattern: str) -> int:
        return sum(bool(re.match(pattern, operation)) for operation in operations)

    wide = r"\S*\.(128|ENL2\.256|256)"
    return {
        "loads": matching("LDG"),
        "wide_loads": matching("LDG" + wide),
        "stores": matching("STG"),
        "wide_stores": matching("STG" + wide),
    }


def resources_of_library() -> dict[tuple[int, str], dict[str, int]]:
    """``resources`` of every kernel of the library for GPUs."""
    found: dict[tuple[int, str], dict[str, int]] = {}
    for made in build.cuda_objects():
        found |= resources(build.log_of(made).read_text())
    return found
