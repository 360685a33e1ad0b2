"""cuxray on the machine code: bank conflicts of shared memory, and a second opinion on spills and registers.

One architecture, the instances that share memory among many threads: cuxray takes about two seconds for each.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from gpu import build, planted, sass, tools

pytestmark = pytest.mark.gpu_ladder

ARCH = 90
# By object: demangled kernel, threads of a block, what must hold.
GATES = [
    ("median_of_others", "median_of_others<float>", 512, "spill_instrs==0, bank_ways<=1"),
    ("median_of_others", "median_of_others<double>", 512, "spill_instrs==0, bank_ways<=2"),
    ("median_of_others", "count_digits<float>", 512, "spill_instrs==0, bank_ways<=1"),
    ("median_of_others", "choose_digits<float>", 512, "spill_instrs==0, bank_ways<=1"),
    ("class_sums", "class_sums<float>", 256, "spill_instrs==0, bank_ways<=1"),
]


def cubin_of(made: Path, folder: Path) -> Path:
    command = [tools.disassembler("cuobjdump"), "-xelf", f"sm_{ARCH}", str(made)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (cubin,) = folder.glob("*.cubin")
    return cubin


def gate(made: Path, folder: Path, kernel: str, threads: int, rule: str) -> subprocess.CompletedProcess[str]:
    """Runs `cuxray gate`: exit status 0 if the rule holds, 1 if not."""
    try:
        cubin = cubin_of(made, folder)
        name = next(mangled for mangled in mangled_names(cubin) if sass.short(mangled) == kernel)
        return tools.cuxray("gate", str(cubin), rule, "--kernel", name, "--threads", str(threads))
    except tools.Missing as missing:
        tools.required(str(missing))
        raise


def mangled_names(cubin: Path) -> list[str]:
    said = subprocess.run(["nm", "-a", str(cubin)], capture_output=True, text=True).stdout
    return [line.split()[-1] for line in said.splitlines() if line.split()[-2:-1] == ["T"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("stem", "kernel", "threads", "rule"), GATES, ids=[kernel for _, kernel, *_ in GATES])
def test_gate(stem, kernel, threads, rule, tmp_path):
    made = next(path for path in build.cuda_objects() if path.stem == stem)
    done = gate(made, tmp_path, kernel, threads, rule)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_a_bank_conflict_is_found(tmp_path):
    """The gate can fail: sums laid out the other way round, so that lanes meet in two banks."""
    sources = planted.copy_of_sources(tmp_path)
    header = sources / "median_of_others.cuh"
    text = header.read_text()
    assert text.count("uint32_t[kMedianWarps][kMedianUnits], groups") == 1
    text = text.replace("uint32_t[kMedianWarps][kMedianUnits], groups", "uint32_t[kMedianUnits][kMedianWarps], groups")
    header.write_text(re.sub(r"groups\[([^][]+(?:\(\))?)\]\[lane_index\(\)\]", r"groups[lane_index()][\1]", text))
    objects = build.cuda_objects(sources, ("median_of_others",))
    (folder := tmp_path / "cubins").mkdir()
    done = gate(objects[0], folder, "choose_digits<float>", 512, "bank_ways<=1")
    assert done.returncode == 1, done.stdout + done.stderr
