"""What the compiler makes of the Triton kernels, for GPUs that are not here: budgets, lints, and that both can fail."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")

KERNELS = Path(__file__).parents[2] / "memkern" / "triton_kernels"
sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import launches_offline  # noqa: E402
import lint  # noqa: E402
import machine_code  # noqa: E402
import rungs  # noqa: E402

pytestmark = pytest.mark.gpu_ladder
BUDGETS = json.loads((rungs.HERE / "budgets.json").read_text())


@pytest.mark.parametrize("targets", ["sm_80 sm_90 sm_100", "gfx942"])
@pytest.mark.timeout(rungs.SECONDS)
def test_budgets(targets, record_property):
    """Registers, spills, shared memory and widths of loads of every shipped launch; the lints of its code."""
    if BUDGETS["made with"] != f"Triton {triton.__version__}":
        rungs.cannot_run(f"budgets.json was made with {BUDGETS['made with']}, this is {triton.__version__}")
    code, output = rungs.run([sys.executable, str(rungs.HERE / "compile_gate.py"), "--target", *targets.split()])
    assert code == 0, "\n".join(line for line in output.splitlines() if not line.startswith("ok"))
    for target in targets.split():
        compiled = len(re.findall(rf"^ok .* \| {target} ", output, re.M))
        # no line of the data file has lost its kernel
        assert compiled == len([name for name in BUDGETS if name.endswith(f"| {target}")])
        rungs.report(record_property, "compile gate", f"{target}: {compiled} kernels within their budgets")


def test_every_target_is_held_to_its_budgets():
    (mark,) = (mark for mark in test_budgets.pytestmark if mark.name == "parametrize")
    assert " ".join(mark.args[1]).split() == list(launches_offline.TARGETS)


def test_what_is_made_for_one_gpu_serves_another():
    """As compile_gate.py has it: machine code from another GPU's TTIR is that of a compiler which made its own."""
    from memkern.triton_kernels.class_sums import class_sums

    arguments = torch.empty(256, 2048), torch.zeros(256, dtype=torch.int64), 10
    (launch,) = launches_offline.launches(lambda: class_sums(*arguments), "sm_90")
    before, alone = launches_offline.compiled(launch, "sm_80"), launches_offline.compiled(launch, "sm_90")
    other = launches_offline.compiled(launch, "sm_90", before)
    assert before.asm["ptx"] != alone.asm["ptx"] == other.asm["ptx"]


def test_spills_are_few_and_reviewed():
    """At most a handful of registers, each line with its reason."""
    spilling = [line for line in BUDGETS.values() if "spills" in line]
    assert all(line["spills"] <= 25 and line["why"] for line in spilling)


def test_a_spill_in_an_innermost_loop_is_seen():
    code = """
.L_x_0:
        /*0000*/                   LDG.E.128 R0, [R2] ;
.L_x_1:
        /*0010*/                   STL [R1], R0 ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
        /*0030*/                   LDL R0, [R1] ;
        /*0040*/                   BRA `(.L_x_0) ;
"""
    names, inner = machine_code.instructions(code, machine_code.NVIDIA)
    assert names == ["LDG.E.128", "STL", "BRA", "LDL", "BRA"]
    assert inner == [1, 2]


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.name)
def test_source_keeps_the_rules(path):
    assert lint.source_faults(path) == []


def test_imports_nothing_of_memkern_outside_its_folder():
    for path in KERNELS.glob("*.py"):
        modules = re.findall(r"^(?:from|import) (memkern[\w.]*)", path.read_text(), re.M)
        assert all(module.startswith("memkern.triton_kernels") for module in modules), path.name


def test_nothing_is_tuned_at_the_first_call():
    assert not [path.name for path in KERNELS.glob("*.py") if re.search(r"autotune|heuristics\(", path.read_text())]


def test_settings_are_printable_and_used():
    code, printed = rungs.run([sys.executable, "-m", "memkern.triton_kernels.launches"])
    assert code == 0
    from memkern.triton_kernels import launches

    source = "".join(path.read_text() for path in KERNELS.glob("*.py") if path.name != "launches.py")
    for setting in launches.SETTINGS:
        assert f"{setting.value}  {setting.why}" in printed
        assert f'"{setting.name}"' in source, f"{setting.kernel} {setting.name} is used by nothing"
