"""Options, the shared race fixture, the stored JSON, and the tables at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

from bench import environment, harness, report, targets

CASES: list[dict[str, Any]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memkern bench")
    group.addoption("--quick", action="store_true", help="a few shapes of every op, under 3 minutes")
    group.addoption("--seconds", type=float, default=0.0, help="timing budget of a case (default 3.5, --quick 2)")
    group.addoption("--store", type=Path, help="JSON file to merge the results into")
    group.addoption("--machine", default="", help="name of the machine in the results")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the quick subset alone if asked; puts last what changes the process."""
    if config.getoption("--quick"):
        left_out = [item for item in items if item.get_closest_marker("quick") is None]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """Numba uses as many threads as torch and memkern."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether only the quick subset runs."""
    return bool(request.config.getoption("--quick"))


@pytest.fixture
def race(
    benchmark: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs a case, prints its table, keeps it for the store; fails if memkern's own result is wrong."""
    config = request.config
    seconds = config.getoption("--seconds") or (2.0 if config.getoption("--quick") else 3.5)

    def run(case: harness.Case, scale: float = 1.0) -> dict[str, Any]:
        result = harness.run(benchmark, case, seconds * scale)
        record(config, capsys, result)
        return result

    return run


def record(config: pytest.Config, capsys: pytest.CaptureFixture[str], result: dict[str, Any]) -> None:
    """Keeps a case, prints it, and fails if memkern's own result is wrong."""
    result.update(commit=environment.commit(), date=environment.now(), quick=config.getoption("--quick"))
    CASES.append(result)
    with capsys.disabled():
        print("\n" + report.text_table(result), flush=True)
    if config.getoption("--store"):
        store(config.getoption("--store"), config.getoption("--machine"))
    wrong = [row for row in result["rows"] if row["role"] == "ours" and row["status"] != "ok"]
    assert not wrong, wrong


def store(path: Path, machine: str) -> None:
    """Merges the cases of this run into a JSON file; a case that ran again replaces the one before."""
    before = json.loads(path.read_text()) if path.exists() else {"cases": []}
    cases = {targets.key(case): case for case in before["cases"]} | {targets.key(case): case for case in CASES}
    found = {"environment": environment.environment(machine), "cases": list(cases.values())}
    found["targets"] = targets.judge(found["cases"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.rounded(found), indent=1) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the targets over everything measured in this run."""
    if not CASES:
        return
    terminalreporter.section("memkern targets")
    terminalreporter.write_line(report.targets_text(targets.judge(CASES)))
