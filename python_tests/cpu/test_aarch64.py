"""The kernels on 64-bit ARM: cross-built without a warning, and their C++ tests run by an emulator of the processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
LIBRARIES = "/usr/aarch64-linux-gnu"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.mark.field("package", "64-bit ARM, under an emulator")
@pytest.mark.long
@pytest.mark.xdist_group("aarch64")
def test_kernels_of_64_bit_arm(tmp_path):
    missing = [tool for tool in ("cmake", "ninja", COMPILER, EMULATOR) if not shutil.which(tool)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian's g++-aarch64-linux-gnu and qemu-user)")
    run(
        "cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DMEMKERN_TESTS=ON", "-DMEMKERN_PYTHON=OFF",
        "-DMEMKERN_CUDA=OFF", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DCMAKE_CXX_FLAGS=-Werror",
    )  # fmt: skip
    run("cmake", "--build", tmp_path, "--parallel", str(os.cpu_count()), "--target", "test_kernels")
    assert "neon: done" in run(EMULATOR, "-L", LIBRARIES, tmp_path / "test_kernels")
