"""What a number depends on: machine, threads, versions, commit."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import torch

import memkern
from bench import roofline

ROOT = Path(__file__).resolve().parents[1]


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit, with a mark if files differ from it."""
    found = _first_line(["git", "rev-parse", "--short=12", "HEAD"])
    return found + ("+changes" if _first_line(["git", "status", "--porcelain", "-uno"]) != "unknown" else "")


def now() -> str:
    """UTC, to the minute."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _gpu() -> str:
    """Name, memory, multiprocessors and CUDA of the first GPU."""
    if not torch.cuda.is_available():
        return "none"
    found = torch.cuda.get_device_properties(0)
    gpu_backends = "; ".join(f"{i.name}: {i.detail}" for i in memkern.backends() if i.name in ("cuda", "triton"))
    return (
        f"{found.name} ({found.total_memory / 2**30:.0f} GiB, {found.multi_processor_count} multiprocessors, "
        f"{found.L2_cache_size / 2**20:.0f} MiB L2), CUDA {torch.version.cuda or torch.version.hip}; {gpu_backends}"
    )


def environment(machine: str = "") -> dict[str, Any]:
    """Everything that a reader of the numbers has to know.

    Args:
        machine: A name for the machine; default: the processor's model name.
    """
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    private, shared = roofline.caches()
    packages = ("torch", "triton", "numpy", "numba", "numkong", "jax", "torchvision", "kornia", "pytest-benchmark")
    return {
        "machine": machine or (model.group(1) if model else platform.processor()),
        "cpu": model.group(1) if model else platform.processor(),
        "cores": len(__import__("os").sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "l2_mib": private / 2**20,
        "l3_mib": shared / 2**20,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "numba_threading": numba.threading_layer() if numba.np.ufunc.parallel._is_initialized else "not started",
        "compiler": _first_line(["c++", "--version"]),
        "memkern": memkern.__version__,
        "backend": next(info.detail for info in memkern.backends() if info.name == "cpu"),
        "gpu": _gpu(),
        "commit": commit(),
        "date": now(),
    }
