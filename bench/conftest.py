"""Options, the shared race fixture, the stored JSON, and the tables at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

from bench import environment, harness, load, report, sources, targets
from memkern import dispatch

CASES: list[dict[str, Any]] = []
RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memkern bench")
    group.addoption("--backend", choices=("cpu", "cuda", "triton"), default="cpu", help="what of memkern is timed")
    group.addoption("--quick", action="store_true", help="a few shapes of every op, under 3 minutes")
    group.addoption("--seconds", type=float, default=0.0, help="timing budget of a case (default 3, --quick 1.5)")
    group.addoption("--store", type=Path, help="JSON file to merge the results into (bench/results/local.json)")
    group.addoption("--resume", action="store_true", help="only what is not stored yet, or was disturbed by other work")
    group.addoption("--machine", default="", help="name of the machine in the results")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps what the backend runs, and of it the quick subset alone if asked; puts last what changes the process."""
    on_gpu = config.getoption("--backend") != "cpu"
    reason = dispatch.why_not(config.getoption("--backend"), torch.device("cuda")) if on_gpu else ""
    if reason:
        raise pytest.UsageError(f"--backend {config.getoption('--backend')} cannot run here: {reason}")
    left_out = [item for item in items if (item.get_closest_marker("gpu") is not None) != on_gpu]
    items[:] = [item for item in items if (item.get_closest_marker("gpu") is not None) == on_gpu]
    config.hook.pytest_deselected(items=left_out)
    if config.getoption("--quick"):
        left_out = [item for item in items if item.get_closest_marker("quick") is None]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if config.getoption("--resume"):
        done = settled(store_of(config))
        left_out = [item for item in items if item.nodeid in done]
        items[:] = [item for item in items if item.nodeid not in done]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def store_of(config: pytest.Config) -> Path:
    """Where results go: ``--store``, else a file that is not under version control."""
    name = "local" if config.getoption("--backend") == "cpu" else config.getoption("--backend")
    return config.getoption("--store") or RESULTS / f"{name}.json"


def settled(path: Path) -> set[str]:
    """The tests whose stored case was timed on a quiet machine."""
    cases = json.loads(path.read_text())["cases"] if path.exists() else []
    return {case["test"] for case in cases if case["disturbed"] <= load.QUIET}


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """Numba uses as many threads as torch and memkern."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The backend of ``--backend``."""
    return str(request.config.getoption("--backend"))


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
    seconds = config.getoption("--seconds") or (1.5 if config.getoption("--quick") else 3.0)

    def run(case: harness.Case, scale: float = 1.0) -> dict[str, Any]:
        result = harness.run(benchmark, case, seconds * scale)
        record(request, capsys, result)
        return result

    return run


def record(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], result: dict[str, Any]) -> None:
    """Keeps a case, prints it, and fails if memkern's own result is wrong."""
    config = request.config
    result.update(
        test=request.node.nodeid, commit=environment.commit(), date=environment.now(),
        quick=config.getoption("--quick"), backend=config.getoption("--backend"),
    )  # fmt: skip
    if result["backend"] == "cpu":
        result["sources"] = sources.digest(result["op"])
    CASES.append(result)
    with capsys.disabled():
        print("\n" + report.text_table(result), flush=True)
    if config.getoption("benchmark_disable", False) is False:
        store(store_of(config), config.getoption("--machine"))
    wrong = [row for row in result["rows"] if row["role"] in ("ours", "variant") and row["status"] != "ok"]
    assert not wrong, wrong


def store(path: Path, machine: str) -> None:
    """Merges the cases of this run into a JSON file; a case that ran again replaces the one before."""
    before = json.loads(path.read_text()) if path.exists() else {"cases": []}
    cases = {targets.key(case): case for case in [*before["cases"], *CASES]}
    found = {"environment": environment.environment(machine), "cases": list(cases.values())}
    found["targets"] = targets.judge(found["cases"])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report.rounded(found), indent=1) + "\n")
    part.replace(path)  # whole or not at all, also when the run is killed


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the targets over everything measured in this run."""
    if not CASES or terminalreporter.config.getoption("--backend") != "cpu":  # the targets speak of CPUs
        return
    terminalreporter.section("memkern targets")
    terminalreporter.write_line(report.targets_text(targets.judge(CASES)))
