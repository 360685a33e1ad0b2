"""Every op test runs once per path of memkern.testing: the reference, and each instruction set of the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import hypothesis
import pytest
import torch

from memkern import testing

PATHS = testing.paths()
hypothesis.settings.register_profile(
    "memkern",
    max_examples=25,
    deadline=None,
    derandomize=True,
    # `path` forces an instruction set; that it stays forced from one example to the next is what the tests want.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("memkern")


def pytest_report_header() -> list[str]:
    return [f"memkern path {path}: {reason or 'runs'}" for path, reason in PATHS.items()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests recorded as the property "ran": counts of the GPU ladder's rungs, the agreement table."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    calls = [report for report in reports if getattr(report, "when", None) == "call"]
    lines = [text for report in calls for name, text in report.user_properties if name == "ran"]
    if lines:
        terminalreporter.section("what ran")
        terminalreporter.write_line("\n".join(sorted(lines)))


@contextmanager
def forced(path: str) -> Iterator[str]:
    if PATHS[path]:
        pytest.skip(PATHS[path])
    # The reference is plain torch: on small tensors its threads only wait for each other.
    limit = testing.threads(1) if path == "reference" else nullcontext()
    with limit, testing.forced_path(path) as backend:
        yield backend


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend to name in a call, with the path's instruction set in force."""
    with forced(request.param) as backend:
        yield backend


@pytest.fixture(params=[path for path in PATHS if path != "reference"])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same without the reference: for sweeps over sizes, where it would be compared with itself."""
    with forced(request.param) as backend:
        yield backend


@pytest.fixture(params=testing.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
