"""What the compiler makes of the Triton kernels, for GPUs that are not here: budgets, lints, and that both can fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

HERE = Path(__file__).parent / "gpu_triton"
KERNELS = Path(__file__).parents[1] / "memkern" / "triton_kernels"
sys.path.insert(0, str(HERE))

import launches_offline  # noqa: E402
import lint  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("target", launches_offline.TARGETS)
@pytest.mark.timeout(900)
def test_budgets(target):
    """Registers, spills, shared memory and widths of loads of every shipped launch; the lints of its code."""
    command = [sys.executable, str(HERE / "compile_gate.py"), "--target", target]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if not line.startswith("ok"))
    compiled = re.search(r"^(\d+) kernels compiled, 0 bad$", done.stdout, re.M)
    assert compiled, done.stdout[-1000:]
    lines = [name for name in json.loads((HERE / "budgets.json").read_text()) if name.endswith(target)]
    assert int(compiled[1]) == len(lines)  # no line of the data file has lost its kernel


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.name)
def test_source_keeps_the_rules(path):
    assert lint.source_faults(path) == []


def test_imports_nothing_of_memkern_outside_its_folder():
    for path in KERNELS.glob("*.py"):
        modules = re.findall(r"^(?:from|import) (memkern[\w.]*)", path.read_text(), re.M)
        assert all(module.startswith("memkern.triton_kernels") for module in modules), path.name


def test_settings_are_printable_and_used():
    from memkern.triton_kernels import launches

    source = "".join(path.read_text() for path in KERNELS.glob("*.py") if path.name != "launches.py")
    for setting in launches.SETTINGS:
        assert setting.why in launches.table()
        assert f'"{setting.name}"' in source, f"{setting.kernel} {setting.name} is used by nothing"
