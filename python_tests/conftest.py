"""Every op test runs once per path of helpers/kernel_paths: the reference, each instruction set of the CPU kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import hypothesis
import pytest
import torch

from python_tests.helpers import field_page, testing

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


LEFT_OUT = {"long": "make long-check", "gpu_ladder": "make gpu-check", "gpu_faults": "make gpu-faults"}
"""Markers of tests that a plain run leaves out -> the command that runs them."""

FIELD_ROWS = pytest.StashKey[set[field_page.Row]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the rows of docs/field.md, of tests that other commands run as well."""
    config.stash[FIELD_ROWS] = field_page.rows_of(items)


left_out = pytest.StashKey[Counter[str]]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Counts what is left out by marker."""
    for item in items:
        counts = item.config.stash.setdefault(left_out, Counter())
        counts.update(name for name in LEFT_OUT if item.get_closest_marker(name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Passes the counts of a worker of pytest-xdist on; every worker collects the same tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash.get(left_out, Counter()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[left_out] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what was left out, and what tests recorded as the property "ran" (rungs of the ladder, agreement)."""
    counts = config.stash.get(left_out, Counter())
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"not selected: {count} {name} ({LEFT_OUT[name]})")
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
