"""The C++ kernels under the address and undefined-behaviour sanitizers, on their C++ tests and on drawn inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agreement import replay
from agreement.ops import OPS, drawn_cases_agree

from memkern import native

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


# Compiling every kernel for every instruction set takes minutes, and more beside other work.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("sanitizers"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    cmake = need("cmake")
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        pytest.skip("no C++ compiler is installed")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    folder = tmp_path_factory.mktemp("sanitizers")
    run(
        cmake, "-S", str(ROOT), "-B", str(folder), *generator,
        "-DCMAKE_BUILD_TYPE=Debug", "-DMEMKERN_TESTS=ON", "-DMEMKERN_PYTHON=OFF",
        # Unoptimized: compiling takes a quarter of the time that it takes with -O1, and loads and stores are the same.
        "-DMEMKERN_SANITIZE=address,undefined", "-DMEMKERN_OPTIMIZE=-O0",
        cwd=folder,
    )  # fmt: skip
    run(cmake, "--build", str(folder), "--parallel", "2", "--target", "test_kernels", "replay", cwd=folder)
    return folder


def test_no_sanitizer_complains(built):
    run(need("ctest"), "--test-dir", str(built), "--output-on-failure", "--no-tests=error", cwd=built)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("isa", native.library().supported_isas())
def test_drawn_inputs(built, isa, op):
    with replay.running([built / "replay", isa], OPTIONS) as run_case:
        count, _ = drawn_cases_agree(op, 25, 1500, run_case)
    assert count >= 25
