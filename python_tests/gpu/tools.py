"""The NVIDIA tools of the ladder: from the machine where it has the right version, else from PyPI's wheels.

Wheels are installed below build/gpu/, once, and never into the environment that runs the tests.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build" / "gpu"
RELEASE = "13.0"  # of nvcc: budgets.json holds what this one makes of the kernels
WHEELS = {
    "nvcc": tuple(
        f"{package}=={RELEASE}.*"
        for package in ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-runtime", "nvidia-cuda-cccl")
    ),
    # nvdisasm 13.1 does not read what nvcc makes for sm_100
    "disassemblers": ("nvidia-cuda-nvdisasm==13.5.37", "nvidia-cuda-cuobjdump==13.5.37"),
    "cuxray": ("cuxray==0.6.0", "nvidia-cuda-nvdisasm==13.5.37", "nvidia-cuda-cuobjdump==13.5.37"),
}


class Missing(RuntimeError):
    """A tool that could not be had; the message says why."""


@functools.cache
def wheels(name: str) -> Path:
    """The folder of some of WHEELS; installs them first.

    Raises:
        Missing: If pip cannot install them, for want of a network say.
    """
    folder = BUILD / "wheels" / name
    with alone(folder.with_suffix(".lock")):
        if not folder.exists():
            half_done = folder.with_suffix(".half")
            shutil.rmtree(half_done, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(half_done), *WHEELS[name]]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Missing(f"pip could not install {', '.join(WHEELS[name])}: {done.stderr.strip()[-500:]}")
            half_done.rename(folder)
    return folder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds the file `path`; waits while another process holds it: a test run has several workers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _of_release(nvcc: str | None) -> bool:
    if nvcc is None:
        return False
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    return f"release {RELEASE}," in said


@functools.cache
def nvcc() -> str:
    """An nvcc of RELEASE.

    Raises:
        Missing: If neither the machine has one nor PyPI can be asked.
    """
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    places = [None, *(f"{home}/bin" for home in homes if home)]
    for found in (shutil.which("nvcc", path=place) for place in places):
        if found and _of_release(found):
            return found
    return str(_executable(wheels("nvcc") / "nvidia" / "cu13" / "bin" / "nvcc"))


@functools.cache
def disassembler(name: str) -> str:
    """The path of "nvdisasm" or "cuobjdump".

    Raises:
        Missing: If PyPI cannot be asked.
    """
    return str(_executable(wheels("disassemblers") / "nvidia" / "cu13" / "bin" / name))


def cuxray(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs cuxray, which must not fetch anything of its own.

    Raises:
        Missing: If PyPI cannot be asked.
    """
    folder = wheels("cuxray")
    tools = folder / "nvidia" / "cu13" / "bin"
    for tool in tools.iterdir():
        _executable(tool)
    environment = {**os.environ, "PYTHONPATH": str(folder), "CUXRAY_NO_FETCH": "1", "COLUMNS": "200"}
    environment["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, str(folder / "bin" / "cuxray"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def _executable(path: Path) -> Path:
    if not path.exists():
        raise Missing(f"{path.name} is not in the wheel")
    path.chmod(path.stat().st_mode | 0o111)  # pip keeps this bit, other installers lose it
    return path


def required(reason: str) -> None:
    """Skips the test that cannot run for this reason; under CI=true it fails, for a rung must not vanish."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"this rung could not run: {reason}")
    pytest.skip(reason)
