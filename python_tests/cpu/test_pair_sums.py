"""Every register tile of alignment, at every number of views, by the sums that it makes."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import memkern
from python_tests.helpers import testing

ROOT = Path(memkern.__file__).resolve().parent.parent
MARCH = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "baseline": "x86-64"}
COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.parametrize("isa", MARCH if platform.machine() in {"x86_64", "AMD64"} else ["baseline"])
def test_sums_of_pairs(isa, tmp_path):
    lacking = testing.paths().get(f"cpu-{isa}", "this build lacks the instruction set")
    if lacking:
        pytest.skip(lacking)
    source = ROOT / "python_tests/cpp/test_pair_sums.cpp"
    if COMPILER is None or not source.is_file():
        pytest.skip("needs a C++ compiler and the source tree")
    march = [f"-march={MARCH[isa]}"] if platform.machine() in {"x86_64", "AMD64"} else []
    command = [COMPILER, "-std=c++17", "-O1", *march, f"-DMEMKERN_ISA={isa}", f"-I{ROOT / 'csrc'}", str(source)]
    subprocess.run([*command, "-o", "test"], cwd=tmp_path, check=True)
    done = subprocess.run(["./test"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
