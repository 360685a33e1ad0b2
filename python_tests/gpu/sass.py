"""What the compiled kernels are made of: registers, spills, shared memory, loads by width, warps an SM holds.

python -m gpu.sass            writes budgets.json anew: read the difference before keeping it
python -m gpu.sass --mix      instructions by kind, for docs/gpu-performance.md
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gpu import build, tools

BUDGETS = Path(__file__).with_name("budgets.json")
Row = dict[str, int]

# Threads of a block, where the launcher does not choose fewer; by kernel.
THREADS = {
    "pair_sums": 128, "layer_sums": 128, "tile_sums": 128, "finish_alignment": 128, "gradient_coefficients": 128,
    "alignment_gradient": 128, "sum_rows": 256, "sum_planes": 256, "sum_elements": 256, "finish_means": 256,
    "visit_points": 128, "merge_states": 128, "median_of_others": 256, "class_sums": 256, "add_class_sums": 256,
}  # fmt: skip
# Of an SM: warps, blocks, bytes of shared memory. All have 65536 registers, given to warps in steps of 256, and take
# 1 KB of shared memory for each block.
LIMITS = {
    80: (64, 32, 164 << 10), 86: (48, 16, 100 << 10), 90: (64, 32, 228 << 10), 100: (64, 32, 228 << 10),
    120: (48, 24, 100 << 10),
}  # fmt: skip


def warps(arch: int, kernel: str, registers: int, shared: int) -> int:
    """How many warps an SM holds at once."""
    most_warps, most_blocks, memory = LIMITS[arch]
    name, _, arguments = kernel.partition("<")
    of_block = (int(arguments.split(", ")[1]) if name == "make_views" else THREADS[name]) // 32  # its second argument
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // of_block
    blocks = min(most_warps // of_block, most_blocks, by_registers, memory // (shared + 1024))
    return blocks * of_block


def short(mangled: str) -> str:
    """``_ZN7memkern9pair_sumsIfLi10EEEv...`` -> ``pair_sums<float, 10>``."""
    text = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    text = re.sub(r"\(int\)|memkern::|^void |^static ", "", text)
    name = re.match(r"[\w]+(<[^(]*>)?(?=\()", text)
    assert name, text
    return name[0]


def resources(log: str) -> dict[tuple[int, str], Row]:
    """What ``ptxas -v`` said, by architecture and kernel: registers, spill and stack (bytes), shared (bytes)."""
    pattern = (
        r"Compiling entry function '(\S+)' for 'sm_(\d+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
    )
    found = {}
    for name, arch, stack, stores, loads, registers, rest in re.findall(pattern, log, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", rest)
        row = {"registers": int(registers), "spill": int(stack) + int(stores) + int(loads)}
        row["shared"] = int(shared[1]) if shared else 0
        kernel = short(name)
        row["warps"] = warps(int(arch), kernel, row["registers"], row["shared"])
        found[int(arch), kernel] = row
    return found


def disassembled(made: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Every kernel of an object: architecture, name, and the instructions' names with their modifiers."""
    cuobjdump, nvdisasm = tools.disassembler("cuobjdump"), tools.disassembler("nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cuobjdump, "-xelf", "all", str(made)], cwd=folder, check=True, capture_output=True)
        for cubin in sorted(Path(folder).glob("*.cubin")):
            arch = re.search(r"sm_(\d+)", cubin.name)
            assert arch
            listing = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
            for part in re.split(r"(?=\.section\s+\.text\.)", listing)[1:]:
                name = re.match(r"\.section\s+\.text\.([^,]+)", part)
                assert name
                pattern = r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)"
                yield int(arch[1]), short(name[1]), re.findall(pattern, part, re.MULTILINE)


def wide(operations: list[str]) -> Row:
    """How many loads from and stores to global memory move 16 bytes or more."""
    pattern = r"\S*\.(128|ENL2\.256|256)"
    return {
        "wide_loads": sum(bool(re.match("LDG" + pattern, operation)) for operation in operations),
        "wide_stores": sum(bool(re.match("STG" + pattern, operation)) for operation in operations),
    }


def inventory() -> dict[tuple[int, str], Row]:
    """One row per architecture and kernel, of the library for GPUs; kept beside the objects: it takes a minute."""
    objects = build.cuda_objects()
    kept = build.BUILD / f"inventory-{build.digest(objects)}.json"
    if kept.exists():
        return read_rows(kept)
    rows: dict[tuple[int, str], Row] = {}
    for made in objects:
        rows |= resources(build.log_of(made).read_text())
    for made in objects:
        for arch, kernel, operations in disassembled(made):
            rows[arch, kernel] |= wide(operations)
    write_rows(kept, rows)
    return rows


def budgets() -> dict[tuple[int, str], Row]:
    """The rows of budgets.json."""
    return read_rows(BUDGETS)


def read_rows(path: Path) -> dict[tuple[int, str], Row]:
    """What ``write_rows`` wrote."""
    return {(row.pop("arch"), row.pop("kernel")): row for row in json.loads(path.read_text())}


def write_rows(path: Path, rows: dict[tuple[int, str], Row]) -> None:
    """One row a line, by kernel and architecture."""
    in_order = sorted(rows.items(), key=lambda item: (item[0][1], item[0][0]))
    lines = [json.dumps({"arch": arch, "kernel": kernel} | row) for (arch, kernel), row in in_order]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


KINDS = {
    "wide loads": r"LDG\S*128|LDG\S*256", "other loads": r"LDG", "stores": r"STG", "shared": r"LDS|STS",
    "float": r"F(ADD|MUL|FMA)2?\b", "double": r"D(ADD|MUL|FMA)\b|DSETP", "conversions": r"F2F|I2F|F2I|HADD2\.F32|PRMT",
    "shuffles": r"SHFL", "barriers": r"BAR", "branches": r"BRA|BSSY|BSYNC|EXIT",
}  # fmt: skip


def print_mix(arch: int = 90) -> None:
    """A table of instructions by kind."""
    print("kernel\t" + "\t".join(KINDS) + "\tall")
    for made in build.cuda_objects():
        for found, kernel, operations in disassembled(made):
            if found != arch:
                continue
            counts: Counter[str] = Counter()
            for operation in operations:
                counts[next((kind for kind, pattern in KINDS.items() if re.match(pattern, operation)), "others")] += 1
            print("\t".join([kernel, *(str(counts[kind]) for kind in KINDS), str(len(operations))]))


if __name__ == "__main__":
    print_mix() if "--mix" in sys.argv else write_rows(BUDGETS, inventory())
