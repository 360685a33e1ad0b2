"""A pytest plugin (`-p gpu.report`): after a run of the ladder, one line per rung says what ran, failed, was skipped.

A rung of which nothing ran must not look like one that passed: under CI=true it makes the run fail.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import pytest

# The rungs of the CUDA half, by test file; the files of the Triton half are rungs of their own.
RUNGS = {
    "test_cuda_nvcc": "nvcc, every architecture: spills, registers, wide loads, occupancy; loading without a driver",
    "test_cuda_cuxray": "cuxray: bank conflicts",
    "test_cuda_nvrtc": "NVRTC: every kernel compiles; launches by name; the folder of machine code",
    "test_cuda_cmake": "CMake: architectures, and what a build for NVRTC installs",
    "test_cuda_launches": "host emulation: schedules, exact bytes, launch counts, misalignment, sizes",
    "test_cuda_sanitizers": "host emulation under no sanitizer, ASan + UBSan, TSan: every branch of every launcher",
    "test_cuda_planted": "planted faults: every class is found by the rung that is named",
}
OPS = "host emulation: the tests of the op, against the float64 reference"
COLUMNS = ("passed", "failed", "error", "skipped")


class Ladder:
    """Counts outcomes by test file."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rung = report.nodeid.partition("::")[0].rpartition("/")[2].removesuffix(".py")
        if report.when == "call" or report.outcome == "skipped":
            self.counts[rung][report.outcome] += 1
        elif report.outcome == "failed":
            self.counts[rung]["error"] += 1

    def empty(self) -> list[str]:
        return [rung for rung, counts in self.counts.items() if not counts["passed"]]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.empty() and os.environ.get("CI") == "true" and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("the ladder")
        for rung, counts in sorted(self.counts.items()):
            what = RUNGS.get(rung, OPS if rung.startswith("test_cuda_") else "")
            numbers = ", ".join(f"{counts[column]} {column}" for column in COLUMNS if counts[column])
            terminalreporter.line(f"{rung:30} {numbers:24} {what}")
        for rung in self.empty():
            terminalreporter.line(f"NOTHING RAN in {rung}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # of xdist: sees a part of each rung
        return
    config.pluginmanager.register(Ladder(), "ladder")
