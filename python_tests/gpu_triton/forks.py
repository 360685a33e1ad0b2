"""Runs checks on edited copies of the kernels, each in a fork of a process that has imported the slow things once.

Importing torch and Triton takes longer than most checks. So a `Ground` keeps one process per rung, whose forks put an
edited folder in front of the package's own and only then import the kernels.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import run_ttsem
import rungs

ANSWER = "\x01"  # what a line of stdout that is an answer begins with
CPU_SECONDS = 150  # of one fork: an edit may make a loop endless; unchanged, 80 at most


class Outcome(NamedTuple):
    """What became of a fork: its exit code (negative: the signal that ended it) and everything it printed."""

    code: int
    output: str


class Ground:
    """Runs the checks of one rung: "values" (Triton's interpreter), "ttsem" or "gate" (compile_gate.py).

    Args:
        rung: Which.

    Raises:
        RuntimeError: If ttsem is asked for and has no environment.
    """

    def __init__(self, rung: str) -> None:
        python = run_ttsem.installed() if rung == "ttsem" else sys.executable
        if python is None:
            raise RuntimeError(run_ttsem.MISSING)
        more = {"values": {"TRITON_INTERPRET": "1", "DEV": "cpu"}, "ttsem": {"DEV": "cuda"}, "gate": {}}[rung]
        more["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and each fork would import them anew
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", __file__, rung], cwd=rungs.ROOT, env=rungs.environment_of_a_rung(**more),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, folder: Path, arguments: list[str]) -> Outcome:
        """Runs pytest, or the gate, with these arguments, on ``folder / "triton_kernels"`` instead of memkern's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), arguments]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return Outcome(*json.loads(line.removeprefix(ANSWER)))
        raise RuntimeError(f"the process to be forked ended with {self._process.wait()}")

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextlib.contextmanager
def grounds() -> Iterator[Callable[[str], Ground]]:
    """A function that gives the ground of a rung, made when a thread first asks for it: it answers one at a time."""
    made: dict[tuple[str, int], Ground] = {}

    def ground(rung: str) -> Ground:
        key = rung, threading.get_ident()
        if key not in made:
            made[key] = Ground(rung)
        return made[key]

    try:
        yield ground
    finally:
        for one in made.values():
            one.close()


# ---- the process that is forked -------------------------------------------------------------------------------------


def _checks() -> Callable[[list[str]], int]:
    import hypothesis  # noqa: F401
    import pytest
    import triton.language  # noqa: F401

    return lambda arguments: int(pytest.main(arguments))


def _checks_under_ttsem() -> Callable[[list[str]], int]:
    _checks()
    from ttsem.sanitize import run_pytest

    return run_pytest


def _gate() -> Callable[[list[str]], int]:
    import launches_offline  # noqa: F401

    def gate(arguments: list[str]) -> int:
        import compile_gate  # imports the kernels

        return compile_gate.main(arguments)

    return gate


def serve(rung: str) -> None:
    """Answers each line of stdin, a folder and arguments, with the outcome of a fork."""
    import torch

    import memkern
    from python_tests.helpers import testing  # noqa: F401

    torch.set_num_threads(1)
    call = {"values": _checks, "ttsem": _checks_under_ttsem, "gate": _gate}[rung]()
    for line in sys.stdin:
        folder, arguments = json.loads(line)
        with tempfile.TemporaryFile("w+", errors="replace") as printed:
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    os.dup2(printed.fileno(), 1)
                    os.dup2(printed.fileno(), 2)
                    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
                    memkern.__path__.insert(0, folder)
                    code = call(arguments)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            printed.seek(0)
            print(ANSWER + json.dumps([code, printed.read()]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
