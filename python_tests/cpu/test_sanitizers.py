"""The C++ kernels under the address and undefined-behaviour sanitizers: a test like any other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Leaks are not looked for: OpenMP's pool lives until the process ends.
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **OPTIONS})
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.long
@pytest.mark.xdist_group("sanitizers")
def test_no_sanitizer_complains(tmp_path):
    cmake, ctest = need("cmake"), need("ctest")
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        pytest.skip("no C++ compiler is installed")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run(
        cmake, "-S", str(ROOT), "-B", str(tmp_path), *generator,
        "-DCMAKE_BUILD_TYPE=Debug", "-DMEMKERN_TESTS=ON", "-DMEMKERN_PYTHON=OFF",
        # Unoptimized: compiling takes a quarter of the time that it takes with -O1, and loads and stores are the same.
        "-DMEMKERN_SANITIZE=address,undefined", "-DMEMKERN_OPTIMIZE=-O0",
        cwd=tmp_path,
    )  # fmt: skip
    run(cmake, "--build", str(tmp_path), "--parallel", "2", "--target", "test_kernels", cwd=tmp_path)
    run(ctest, "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error", cwd=tmp_path)
