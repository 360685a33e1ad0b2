"""For which GPUs CMake compiles the kernels, and what a build for NVRTC installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import build

from memkern import nvrtc

CMAKE = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = [pytest.mark.gpu_ladder, pytest.mark.skipif(CMAKE is None, reason="CMake is not installed")]

SCRIPT = """
cmake_policy(VERSION 3.18)
include(${FILE})
message(STATUS "[${CMAKE_CUDA_ARCHITECTURES}] [${code}] [${MEMKERN_CUDA_CODE}]")
"""


def chosen(folder: Path, *definitions: str, arch_list: str | None = None, gpus: str = "") -> str:
    """What the two variables are on a machine with these GPUs: [CMAKE_CUDA_ARCHITECTURES] [code] [in words]."""
    script, smi = folder / "script.cmake", folder / "nvidia-smi"
    script.write_text(SCRIPT)
    smi.write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
    smi.chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    if arch_list is not None:
        environment["TORCH_CUDA_ARCH_LIST"] = arch_list
    file = build.ROOT / "cmake" / "cuda_architectures.cmake"
    given = [f"-D{definition}" for definition in (*definitions, f"FILE={file}")]
    done = subprocess.run([CMAKE, *given, "-P", str(script)], env=environment, capture_output=True, text=True)
    return done.stdout.strip().removeprefix("-- ") if done.returncode == 0 else " ".join(done.stderr.split())


OURS = "80;86;90;100;120"


@pytest.mark.parametrize(
    ("definitions", "arch_list", "gpus", "want"),
    [
        (["MEMKERN_CUDA=ON"], None, "", f"[] [{OURS}] [{OURS}]"),
        (["MEMKERN_CUDA=AUTO"], None, "", "[] [] []"),
        (["MEMKERN_CUDA=AUTO"], None, "9.0\\n9.0\\n8.6\\n", "[] [90;86] [90;86]"),
        (["MEMKERN_CUDA=AUTO"], "9.0", "8.6\\n", "[90-real] [] [90-real]"),
        (["MEMKERN_CUDA=ON"], "8.0;9.0+PTX", "", "[80-real;90] [] [80-real;90]"),
        (["MEMKERN_CUDA=ON"], "8.0 9.0a, 10.0f+PTX", "", "[80-real;90a-real;100f] [] [80-real;90a-real;100f]"),
        (["MEMKERN_CUDA=ON", "CMAKE_CUDA_ARCHITECTURES=75"], "8.0", "", "[75] [] [75]"),
    ],
    ids=str,
)
def test_architectures(definitions, arch_list, gpus, want, tmp_path):
    assert chosen(tmp_path, *definitions, arch_list=arch_list, gpus=gpus) == want


def test_an_unknown_name_is_an_error(tmp_path):
    assert "got Hopper" in chosen(tmp_path, "MEMKERN_CUDA=ON", arch_list="Hopper")


def test_the_ladder_compiles_what_is_shipped():
    assert ";".join(map(str, build.ARCHITECTURES)) == OURS


def test_a_build_for_nvrtc_installs_the_source_of_the_kernels(tmp_path):
    """All that NVRTC needs, and nothing of the tests: it compiles from the installed folder alone."""
    here, there = tmp_path / "build", tmp_path / "memkern"
    options = ["-DMEMKERN_CUDA=NVRTC", "-DMEMKERN_PYTHON=OFF", f"-DCMAKE_INSTALL_PREFIX={there}"]
    subprocess.run([CMAKE, "-S", str(build.ROOT), "-B", str(here), *options], check=True, capture_output=True)
    subprocess.run([CMAKE, "-P", str(here / "cmake_install.cmake")], check=True, capture_output=True)
    sources = there / nvrtc.SOURCES.name
    installed = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert "cuda/nvrtc_launch.h" in installed
    assert not {path for path in installed if re.search("host|bindings|fields|cpu", path)}
    if reason := nvrtc._without_tools():
        pytest.skip(reason)
    assert nvrtc.compile_kernels(["finish_means<float>"], "sm_90", sources)
