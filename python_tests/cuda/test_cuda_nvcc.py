"""The CUDA kernels as nvcc compiles them: every architecture, no spills, and nothing worse than the budgets.

The budgets are reviewed data, python_tests/gpu/budgets.json, one row per kernel and architecture: most registers and
shared memory, fewest 16-byte loads and stores, fewest warps an SM holds. `python -m gpu.sass` writes it anew.
"""

from __future__ import annotations

import ctypes
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from gpu import build, emulated, path, roofline, sass, tools

# one worker disassembles the machine code: half a minute of a processor
pytestmark = [pytest.mark.gpu_ladder, pytest.mark.xdist_group("machine code")]
FEWEST_WARPS = 8  # of an SM, for any kernel: two for each of its four schedulers


# ---- the tools themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """Nothing is installed, and what is fetched goes elsewhere."""
    monkeypatch.setattr(tools.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(tools, "BUILD", tmp_path)
    for function in (tools.wheels, tools.nvcc, tools.disassembler):
        function.cache_clear()
    yield tmp_path
    for function in (tools.wheels, tools.nvcc, tools.disassembler):
        function.cache_clear()


def test_tools_come_from_wheels_where_the_machine_has_none(bare_machine, monkeypatch):
    asked = []

    def pip(command, **_):
        asked.append(command)
        for name in ("nvcc", "nvdisasm"):
            tool = Path(command[command.index("--target") + 1]) / "nvidia" / "cu13" / "bin" / name
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.touch(mode=0o644)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tools.subprocess, "run", pip)
    for tool in (Path(tools.nvcc()), Path(tools.disassembler("nvdisasm"))):
        assert tool.is_relative_to(bare_machine)
        assert tool.stat().st_mode & 0o111
    assert [any(f"nvidia-cuda-nvcc=={tools.RELEASE}.*" in word for word in command) for command in asked] == [
        True,
        False,
    ]
    tools.nvcc.cache_clear()
    tools.wheels.cache_clear()
    assert tools.nvcc()
    assert len(asked) == 2, "installed once"


def test_workers_that_want_one_tool_wait_for_the_first(bare_machine, monkeypatch):
    asked = []

    def pip(command, **_):
        asked.append(command)
        folder = Path(command[command.index("--target") + 1])
        folder.mkdir()  # raises if somebody else is installing there
        time.sleep(0.2)
        (folder / "whole").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tools.subprocess, "run", pip)
    with ThreadPoolExecutor(4) as workers:
        folders = list(workers.map(tools.wheels.__wrapped__, ["cuxray"] * 4))
    assert len(asked) == 1
    assert all((folder / "whole").exists() for folder in folders)


def test_half_an_installation_is_made_again(bare_machine, monkeypatch):
    def pip(command, **_):
        folder = Path(command[command.index("--target") + 1])
        folder.mkdir()
        (folder / ("half" if broken else "whole")).touch()
        return subprocess.CompletedProcess(command, int(broken), "", "broken off")

    monkeypatch.setattr(tools.subprocess, "run", pip)
    broken = True
    with pytest.raises(tools.Missing, match="broken off"):
        tools.wheels("cuxray")
    broken = False
    assert [path.name for path in tools.wheels("cuxray").iterdir()] == ["whole"]


@pytest.mark.parametrize("ci", ["true", ""])
def test_a_rung_that_cannot_run_says_so_and_fails_in_ci(ci, bare_machine, monkeypatch):
    monkeypatch.setattr(
        tools.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no network")
    )
    monkeypatch.setenv("CI", ci)
    with pytest.raises(tools.Missing, match=r"pip could not install nvidia-cuda-nvcc.*no network") as missing:
        tools.nvcc()
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="no network"):
        tools.required(str(missing.value))


# ---- the kernels --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[int, str], sass.Row]:
    """Spills and local memory are errors of this very build."""
    try:
        return sass.inventory()
    except tools.Missing as missing:
        tools.required(str(missing))
        raise


@pytest.mark.timeout(1500)
def test_every_kernel_compiles_for_every_architecture_without_spills(compiled, record_property):
    kernels = {kernel for _, kernel in compiled}
    record_property("kernels", len(kernels))
    assert len(kernels) > 60
    for arch in build.ARCHITECTURES:
        assert {kernel for found, kernel in compiled if found == arch} == kernels
    for where, found in compiled.items():
        assert found["spill"] == 0, where
        assert found["shared"] <= 48 << 10, where


def test_no_kernel_is_worse_than_its_budget(compiled):
    budgets = sass.budgets()
    assert set(budgets) == set(compiled), "budgets.json has other kernels: `python -m gpu.sass` writes it anew"
    for where, budget in budgets.items():
        for name in sass.AT_MOST:
            assert compiled[where][name] <= budget[name], (where, name)
        for name in sass.AT_LEAST:
            assert compiled[where][name] >= budget[name], (where, name)


def test_the_tables_of_the_docs_are_of_these_kernels(compiled):
    """`python -m gpu.sass` writes one of them, `python -m gpu.roofline` prints the other."""
    assert sass.in_docs(sass.mix_table(compiled)) == sass.DOCS.read_text()
    for case in roofline.CASES:
        assert roofline.line(case) in sass.DOCS.read_text()


def test_budgets_are_reasonable():
    """What a reviewer of budgets.json looks for."""
    for (arch, kernel), row in sass.budgets().items():
        assert row["spill"] == 0
        assert row["warps"] >= FEWEST_WARPS, (arch, kernel)
        name, _, arguments = kernel.partition("<")
        if name in ("pair_sums", "layer_sums"):  # one load for each view; some loops are there twice
            views = int(arguments.rstrip(">").split(", ")[1])
            assert views <= row["wide_loads"] <= 2 * views, (arch, kernel)
        if kernel.endswith(("double, 2>", "float, 4>", "bf16, 8>", "f16, 8>")) and name not in (
            "layer_sums", "gradient_of_few",  # their second argument is a number of views
        ):  # fmt: skip
            assert row["wide_loads"] > 0, (arch, kernel)
        if name == "alignment_gradient" and not kernel.endswith(" 1>"):
            assert row["wide_stores"] == 4, (arch, kernel)


@pytest.fixture(scope="module")
def library(compiled) -> Path:
    return build.cuda_library()


def test_the_library_loads_without_a_driver(library):
    """It says why it cannot run, in the driver's words, and a launch says so too instead of crashing."""
    loaded = emulated.load(library)
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    reason = loaded.memkern_cuda_unavailable()
    assert b"driver" in reason or b"device" in reason
    memory = (ctypes.c_double * 16)()
    record = emulated.MedianOfOthers(
        means=ctypes.addressof(memory), dtype=1, points=4, units=1, point_stride=1, median=ctypes.addressof(memory)
    )
    assert loaded.memkern_cuda_median_of_others(ctypes.byref(record), None, None)
    assert len(loaded.memkern_cuda_settings().splitlines()) > 20


def test_the_bindings_raise_what_the_driver_says(library):
    cuda = path.load(build.bindings(library))
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert cuda.unavailable()
    context = cuda.LaunchContext(0, 0, lambda size: 16)
    with pytest.raises(RuntimeError, match="memkern: CUDA: "):
        cuda.median_of_others(context, means=16, dtype=0, points=4, units=1, point_stride=1, median=16)


def test_every_op_is_in_the_library(library):
    """Of each op two symbols; and no symbol that another library could take for its own."""
    said = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in said.stdout.splitlines()}
    exported = {name for name in exported if not name.startswith("_ZZNSt")}  # constants of inline functions of the STL
    assert exported == {f"memkern_cuda_{stem}{half}" for stem in emulated.STEMS for half in ("", "_scratch")} | {
        "memkern_cuda_unavailable",
        "memkern_cuda_enter_device",
        "memkern_cuda_settings",
    }
