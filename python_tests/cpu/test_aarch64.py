"""The kernels on 64-bit ARM: cross-built without a warning, then run by an emulator of the processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agreement import replay
from agreement.ops import OPS, drawn_cases_agree

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
LIBRARIES = "/usr/aarch64-linux-gnu"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


pytestmark = [pytest.mark.long, pytest.mark.xdist_group("aarch64"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    missing = [tool for tool in ("cmake", "ninja", COMPILER, EMULATOR) if not shutil.which(tool)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian's g++-aarch64-linux-gnu and qemu-user)")
    folder = tmp_path_factory.mktemp("aarch64")
    run(
        "cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DMEMKERN_TESTS=ON", "-DMEMKERN_PYTHON=OFF",
        "-DMEMKERN_CUDA=OFF", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DCMAKE_CXX_FLAGS=-Werror",
    )  # fmt: skip
    run("cmake", "--build", folder, "--parallel", str(os.cpu_count()), "--target", "test_kernels", "replay")
    return folder


@pytest.mark.field("package", "64-bit ARM, under an emulator")
def test_kernels_of_64_bit_arm(built):
    assert "neon: done" in run(EMULATOR, "-L", LIBRARIES, built / "test_kernels")


@pytest.mark.parametrize("op", OPS)
def test_drawn_inputs_on_64_bit_arm(built, op):
    with replay.running([EMULATOR, "-L", LIBRARIES, built / "replay", "neon"]) as run_case:
        count, _ = drawn_cases_agree(op, 25, 1500, run_case)
    assert count >= 25
