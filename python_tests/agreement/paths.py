"""The backends of the agreement suite: every one that this machine can run, and why not the others."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from agreement import worker
from agreement.cases import Case
from agreement.ops import OPS, Results
from gpu import build

from memkern import dispatch
from python_tests.helpers import testing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "gpu_triton"))

import run_ttsem  # noqa: E402
import support  # noqa: E402


class Runner(NamedTuple):
    """What runs cases on one backend.

    Attributes:
        why_not: Asked when it is to run: why it cannot run here; empty if it can.
        start: A context in which cases can be run; yields the function that runs one.
        examples: Cases per op; few where one takes long.
        largest: Of a shape's last dimension.
        emulates: Whether it stands for a GPU, so that CI must have it.
    """

    why_not: Callable[[], str]
    start: Callable[[], contextlib.AbstractContextManager[Callable[[Case], Results]]]
    examples: int = 25
    largest: int = 3000
    emulates: bool = False


# ---- in this process ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _here(path: str) -> Iterator[Callable[[Case], Results]]:
    with testing.forced_path(path) as backend, testing.threads(1):
        yield lambda case: OPS[case.op].call(case, OPS[case.op].inputs(case), backend)


@contextlib.contextmanager
def _emulated() -> Iterator[Callable[[Case], Results]]:
    from gpu import path

    with pytest.MonkeyPatch.context() as patch:
        path.plug_in(patch)
        yield lambda case: OPS[case.op].call(case, OPS[case.op].inputs(case), "cuda")


@contextlib.contextmanager
def _on_gpu(backend: str) -> Iterator[Callable[[Case], Results]]:
    def run(case: Case) -> Results:
        inputs = tuple(support.moved(x, "cuda") for x in OPS[case.op].inputs(case))
        return tuple(result.cpu() for result in OPS[case.op].call(case, inputs, backend))

    yield run


# ---- in a process of its own ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _worker(command: list[str], **environment: str) -> Iterator[Callable[[Case], Results]]:
    process = subprocess.Popen(
        [*command, str(HERE / "worker.py")], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    output = process.stdout

    def answer() -> str:
        for line in output:
            if line.startswith(worker.DONE):
                return line.removeprefix(worker.DONE).strip()
            if line.startswith(worker.FAILED):
                raise AssertionError(line.removeprefix(worker.FAILED).replace("\x02", "\n"))
        raise AssertionError(f"the worker ended with {process.wait()}")

    def run(case: Case) -> Results:
        process.stdin.write(case.text() + "\n")
        process.stdin.flush()
        results: Results = torch.load(answer())
        return results

    try:
        answer()
        yield run
    finally:
        process.stdin.close()
        process.wait(60)


def _interpreter() -> contextlib.AbstractContextManager[Callable[[Case], Results]]:
    return _worker([sys.executable, "-W", "ignore"], TRITON_INTERPRET="1", DEV="cpu")


def _ttsem() -> contextlib.AbstractContextManager[Callable[[Case], Results]]:
    return _worker([str(run_ttsem.installed()), "-W", "ignore", "-m", "ttsem.sanitize"], DEV="cuda")


# ---- all of them ----------------------------------------------------------------------------------------------------


@functools.cache
def paths() -> dict[str, Runner]:
    """Every path by name."""

    def because(reason: str) -> Callable[[], str]:
        return lambda: reason

    gpu = torch.device("cuda")
    no_gpu = "" if torch.cuda.is_available() else "no GPU in this machine"
    found = {
        name: Runner(because(reason), functools.partial(_here, name)) for name, reason in testing.paths().items()
    }  # fmt: skip
    slow = {"examples": 6, "largest": 200, "emulates": True}
    compiler = because("" if shutil.which(build.COMPILER) else "no C++ compiler")
    triton = because("" if importlib.util.find_spec("triton") else "Triton is not installed")
    return found | {
        "cuda, emulated": Runner(compiler, _emulated, largest=1500, emulates=True),
        "triton, interpreter": Runner(triton, _interpreter, **slow),
        "triton, ttsem": Runner(lambda: "" if run_ttsem.environment() else run_ttsem.MISSING, _ttsem, **slow),
        "cuda": Runner(because(no_gpu or dispatch.why_not("cuda", gpu)), functools.partial(_on_gpu, "cuda")),
        "triton": Runner(because(no_gpu or dispatch.why_not("triton", gpu)), functools.partial(_on_gpu, "triton")),
    }
