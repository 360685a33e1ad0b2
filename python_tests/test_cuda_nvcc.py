"""The CUDA kernels as nvcc compiles them: every architecture, no spills, registers and wide loads within budgets.

The budgets are reviewed data, python_tests/gpu/budgets.json: per kernel the most registers on any architecture and the
fewest 16-byte loads. A kernel that improves lowers its budget by hand; one that is missing fails.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import pytest
from gpu import build, emulated, sass

from memkern import native  # noqa: F401  # torch first

BUDGETS = Path(__file__).parent / "gpu" / "budgets.json"
IN_CI = os.environ.get("CI") == "true"
THREADS = {"sum_rows": 256, "sum_planes": 256, "sum_elements": 256, "finish_means": 256}

needs_nvcc = pytest.mark.skipif(build.nvcc() is None and not IN_CI, reason="nvcc is not installed")


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[int, str], dict[str, int]]:
    return sass.resources_of_library()


@needs_nvcc
@pytest.mark.timeout(1500)
def test_every_kernel_compiles_for_every_architecture_without_spills(compiled):
    """Spills and local memory are errors of the build itself; here, that the log was understood."""
    kernels = {kernel for _, kernel in compiled}
    assert len(kernels) > 60
    for arch in build.ARCHITECTURES:
        assert {kernel for found, kernel in compiled if found == arch} == kernels
    for where, found in compiled.items():
        assert found["spill"] == found["stack"] == 0, where
        assert found["shared"] <= 48 << 10, where


@needs_nvcc
def test_registers_are_within_budgets(compiled):
    budgets = json.loads(BUDGETS.read_text())
    assert set(budgets) == {kernel for _, kernel in compiled}
    for (arch, kernel), found in compiled.items():
        assert found["registers"] <= budgets[kernel]["registers"], (arch, kernel)


@needs_nvcc
@pytest.mark.timeout(900)
def test_wide_loads_are_within_budgets():
    if sass.tool("nvdisasm") is None or sass.tool("cuobjdump") is None:
        assert not IN_CI
        pytest.skip("nvdisasm and cuobjdump are not installed")
    budgets, seen = json.loads(BUDGETS.read_text()), set()
    for made in build.cuda_objects():
        for arch, kernel, found in sass.loads(made):
            seen.add((arch, kernel))
            assert found["wide_loads"] >= budgets[kernel]["wide_loads"], (arch, kernel, found)
            assert found["wide_stores"] >= budgets[kernel]["wide_stores"], (arch, kernel, found)
    assert len(seen) == len(budgets) * len(build.ARCHITECTURES)


@needs_nvcc
@pytest.mark.timeout(900)
def test_the_library_loads_without_a_driver():
    """It says why it cannot run, in the driver's words, and a launch says so too instead of crashing."""
    library = emulated.load(build.cuda_library())
    reason = library.memkern_cuda_unavailable()
    if reason is None:
        pytest.skip("this machine has a CUDA device")
    assert b"driver" in reason or b"device" in reason
    memory = (ctypes.c_double * 16)()
    record = emulated.MedianOfOthers(ctypes.addressof(memory), 1, 4, 1, 1, ctypes.addressof(memory))
    assert library.memkern_cuda_median_of_others(ctypes.byref(record), None, None)
    assert len(library.memkern_cuda_settings().splitlines()) > 20
    exported = [name for name in dir(library) if name.startswith("memkern_")]
    assert exported
