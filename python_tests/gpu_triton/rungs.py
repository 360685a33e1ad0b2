"""What the rungs of the Triton ladder share: how a rung that cannot run says so, and how its tests are counted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IN_CI = os.environ.get("CI") == "true"
# Each check runs where it finds most for its time: under ttsem, which sees memory and types as the compiler does, or in
# the interpreter, which is quicker. Where ttsem is not installed, the interpreter runs all of them.
MARKED = {"values": "numbers", "ttsem": "not numbers"}
SECONDS = 900.0  # a rung that takes longer hangs


def cannot_run(reason: str) -> None:
    """Skips a rung for want of something; in CI, where everything must be there, it fails instead."""
    (pytest.fail if IN_CI else pytest.skip)(f"this rung did not run: {reason}")


def run(command: list[str], **environment: str) -> tuple[int, str]:
    """Runs a rung in a process of its own; its exit code and everything it printed."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment_of_a_rung(**environment), timeout=SECONDS,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def environment_of_a_rung(**more: str) -> dict[str, str]:
    """This one, with this checkout's memkern, and with what Triton compiles kept under build/."""
    return os.environ | {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(ROOT / "build" / "triton")} | more


def checks(*arguments: str, marked: str = "") -> list[str]:
    """Arguments for pytest on check_*.py in a process of its own: one worker, none of the options of `make test`."""
    options = ["-o", "addopts=--strict-markers", "-o", f"timeout={SECONDS}", "-W", "ignore::RuntimeWarning"]
    return ["-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", *options, "-m", marked, *arguments]


def verdict(returncode: int, output: str) -> str:
    """Empty if every test of a pytest run ran and passed; else what is wrong."""
    counts = count(output)
    if not counts.get("passed"):
        return "no test passed"
    if counts.get("skipped"):
        return f"{counts['skipped']} tests were skipped"
    return f"pytest ended with {returncode}" if returncode else ""


def count(output: str) -> dict[str, int]:
    """Passed, failed, skipped and errors, from the last line that pytest prints."""
    last = [line for line in output.splitlines() if re.search(r"\d+ \w+.* in [\d.]+s", line)][-1:]
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", "".join(last))}


def report(record_property: Callable[[str, object], None], rung: str, text: str) -> None:
    """Has the end of the test run say what a rung ran (see conftest.py)."""
    record_property("ran", f"{rung:<28} {text}")
