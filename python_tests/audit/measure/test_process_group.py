"""Processes that share an audit: they agree before the work, wait as long as the others live, and end together."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memkern.audit.measure import liveness
from memkern.audit.measure.liveness import Liveness
from memkern.errors import ProcessError

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Liveness, Liveness]:
    monkeypatch.setattr(liveness, "BEAT", 0.02)
    monkeypatch.setattr(liveness, "DEAD", 0.4)
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    return Liveness(store, 0, 2), Liveness(store, 1, 2)


def test_a_process_waits_longer_than_a_dead_one_is_waited_for(two: tuple[Liveness, Liveness]) -> None:
    late = threading.Timer(1.2, two[1].arrive)
    late.start()
    start = time.monotonic()
    two[0].arrive()
    assert time.monotonic() - start > 1.0
    late.join()
    for each in two:
        each.leave(None)


def test_a_process_without_a_sign_of_life_ends_the_wait(two: tuple[Liveness, Liveness]) -> None:
    two[1]._end.set()  # its thread ends, as with the process
    with pytest.raises(ProcessError, match=r"Process 1 of 2 on .* has given no sign of life for \d+ seconds: it was "):
        two[0].arrive()
    two[0].leave(None)


def test_why_a_process_failed_is_said(two: tuple[Liveness, Liveness]) -> None:
    two[1].leave(OSError("disk\non fire"))
    with pytest.raises(ProcessError, match=r"Process 1 of 2 on .* failed: disk on fire"):
        two[0].arrive()
    two[0].leave(None)


def test_no_thread_is_left(two: tuple[Liveness, Liveness]) -> None:
    for each in two:
        each.leave(None)
    assert not [thread for thread in threading.enumerate() if thread.name == "memkern-beat" and thread.is_alive()]


# ---- several processes -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    script = Path(__file__).parents[2] / "helpers" / "group_worker.py"
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("group"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


def several(test: Callable[..., None]) -> Callable[..., None]:
    """Some twenty processes, one after the other: seconds alone, a minute on a busy machine."""
    for mark in (pytest.mark.long, pytest.mark.timeout(240), pytest.mark.xdist_group("group_worker")):
        test = mark(test)
    return test


WRONG = {
    "weights": "ProcessError: Expected all processes to measure the same, got another `weights` in process 1 of 2: ",
    "seed": "ProcessError: Expected all processes to measure the same, got another `seed` in process 1 of 2: 1, not 0 ",
    "pixels": "ProcessError: Expected all processes to see the same pixels, got others of class0/00.bmp in process 1 ",
    "images": "ProcessError: Expected all processes to have the same images and labels, got others in process 1 of 2 ",
}


@pytest.mark.field("run", "processes with other weights, pixels, seeds or options: refused")
@several
@pytest.mark.parametrize("name", WRONG)
def test_processes_that_differ_end_before_the_work(found: dict[str, dict[str, Any]], name: str) -> None:
    assert all(said.startswith(WRONG[name]) for said in found[name]["said"]), found[name]


@several
def test_one_image_that_differs_is_found_when_it_is_read(found: dict[str, dict[str, Any]]) -> None:
    assert any("Expected class0/03.bmp to have the pixels that it had" in said for said in found["one image"]["said"])
    assert all(found["one image"]["said"]), "an error in one is an error in all"


@pytest.mark.field("run", "a process that is slow, and one that died")
@several
def test_the_others_wait_for_a_slow_one_and_end_with_a_dead_one(found: dict[str, dict[str, Any]]) -> None:
    assert found["alike"]["said"] == found["slow"]["said"] == ["", ""], "it took twice as long as a dead one may"
    assert found["fails"]["said"][1] == "OSError: disk on fire"
    assert {found["fails"]["said"][0], found["fails"]["said"][2]} == {
        "ProcessError: Process 1 of 3 failed: disk on fire"
    }
    assert found["killed"]["codes"] == [0, -9, 0]
    for said in (found["killed"]["said"][0], found["killed"]["said"][2]):
        assert "has given no sign of life for" in said or "Another process ended while messages" in said
    assert found["killed"]["seconds"] < 30
