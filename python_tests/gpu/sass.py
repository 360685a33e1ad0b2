"""What the compiled kernels are made of: registers, spills, shared memory, loads by width, warps an SM holds.

python -m gpu.sass     writes budgets.json and the table of docs/gpu-performance.md anew: read the difference before
                       keeping it
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cubins
from gpu import build, tools

BUDGETS = Path(__file__).with_name("budgets.json")
DOCS = build.ROOT / "docs" / "gpu-performance.md"
Row = dict[str, int]
# A row of budgets.json: what may not grow, and what may not shrink.
AT_MOST, AT_LEAST = ("registers", "spill", "shared"), ("wide_loads", "wide_stores", "warps")

# Threads of a block, where the launcher does not choose fewer; by kernel.
THREADS = {
    "pair_sums": 128, "layer_sums": 128, "tile_sums": 128, "finish_alignment": 128, "finish_l1": 128,
    "unit_pair_sums": 128, "finish_unit_pairs": 128, "gradient_coefficients": 128,
    "gradient_of_few": 128, "alignment_gradient": 128, "sum_rows": 256, "sum_planes": 256, "sum_elements": 256,
    "finish_means": 256, "visit_points": 128, "merge_states": 256, "median_of_others": 512, "count_digits": 512,
    "choose_digits": 512, "class_sums": 256, "add_class_sums": 256,
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


@functools.cache
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


def disassembled(objects: Sequence[Path]) -> Iterator[tuple[Path, int, str, list[str]]]:
    """Every kernel of some objects: where it is from, architecture, name, and the instructions with their modifiers."""
    cuobjdump, nvdisasm = tools.disassembler("cuobjdump"), tools.disassembler("nvdisasm")
    found: dict[int, list[tuple[Path, str, bytes]]] = {}
    for made in objects:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([cuobjdump, "-xelf", "all", made], cwd=folder, check=True, capture_output=True)
            for cubin in Path(folder).glob("*.cubin"):
                arch = re.search(r"sm_(\d+)", cubin.name)
                assert arch
                kernels = cubins.kernels(cubin.read_bytes()).items()
                found.setdefault(int(arch[1]), []).extend((made, name, code) for name, code in kernels)

    def listings(arch: int) -> list[list[str]]:
        return cubins.disassembled([code for _, _, code in found[arch]], f"SM{arch}", nvdisasm)

    instruction = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for arch, listed in zip(found, pool.map(listings, found), strict=True):
            for (made, name, _), lines in zip(found[arch], listed, strict=True):
                yield made, arch, short(name), [match[1] for line in lines if (match := instruction.match(line))]


def wide(operations: list[str]) -> Row:
    """How many loads from and stores to global memory move 16 bytes or more."""
    moves = [operation for operation in operations if re.match(r"(LDG|STG)\S*\.(128|ENL2\.256|256)", operation)]
    loads = sum(operation.startswith("LDG") for operation in moves)
    return {"wide_loads": loads, "wide_stores": len(moves) - loads}


def inventory() -> dict[tuple[int, str], Row]:
    """One row per architecture and kernel, of the library for GPUs."""
    objects = build.cuda_objects()
    kept = {made: made.with_name(f"rows-{build.digest([Path(__file__)])}.json") for made in objects}
    new = [made for made in objects if not kept[made].exists()]  # rows are kept, for disassembling takes a minute
    rows = {made: resources(build.log_of(made).read_text()) for made in new}
    for made, arch, kernel, operations in disassembled(new):
        rows[made][arch, kernel] |= wide(operations) | mix(operations)
    for made in new:
        write_rows(kept[made], rows[made])
    return {where: row for made in objects for where, row in read_rows(kept[made]).items()}


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


# Instructions by kind; the first pattern that matches counts.
KINDS = {
    "wide loads": r"LDG\S*\.(128|ENL2\.256|256)", "other loads": r"LDG", "stores": r"STG", "shared memory": r"LDS|STS",
    "float": r"F(ADD|MUL|FMA)2?\b", "double": r"D(ADD|MUL|FMA)\b|DSETP", "conversions": r"F2F|I2F|F2I|HADD2\.F32|PRMT",
    "shuffles": r"SHFL", "barriers": r"BAR", "branches": r"BRA|BSSY|BSYNC|EXIT",
}  # fmt: skip
MIX_ARCH = 90


def mix(operations: list[str]) -> Row:
    """How many instructions there are of each kind, and in all."""
    counts = dict.fromkeys(KINDS, 0)
    for operation, count in Counter(operations).items():
        kind = next((kind for kind, pattern in KINDS.items() if re.match(pattern, operation)), "")
        if kind:
            counts[kind] += count
    return counts | {"all": len(operations)}


def mix_table(rows: dict[tuple[int, str], Row]) -> str:
    """For docs/gpu-performance.md: every kernel's registers, warps an SM, and instructions on one architecture."""
    archs = (80, 90, 100)
    heads = ["kernel", *(f"sm_{arch}: registers / warps" for arch in archs), *KINDS, "all"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kernel in sorted(kernel for arch, kernel in rows if arch == MIX_ARCH):
        sizes = [f"{rows[arch, kernel]['registers']} / {rows[arch, kernel]['warps']}" for arch in archs]
        counts = [str(rows[MIX_ARCH, kernel][kind]) for kind in (*KINDS, "all")]
        lines.append(f"| `{kernel}` | " + " | ".join(sizes + counts) + " |")
    return "\n".join(lines)


def in_docs(table: str) -> str:
    """The text of docs/gpu-performance.md with this table in place of its last one."""
    text, at = DOCS.read_text(), "| kernel | sm_80: registers / warps |"
    before, _, rest = text.partition(at)
    after = re.sub(r"^[^\n]*\n(\|[^\n]*\n)*", "", rest)
    return before + table + "\n" + after


def main() -> None:
    """Writes both."""
    rows = inventory()
    write_rows(BUDGETS, {where: {name: row[name] for name in (*AT_MOST, "warps", "wide_loads", "wide_stores")}
                         for where, row in rows.items()})  # fmt: skip
    DOCS.write_text(in_docs(mix_table(rows)))


if __name__ == "__main__":
    main()
