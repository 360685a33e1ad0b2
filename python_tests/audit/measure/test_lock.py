"""One command at a time works on a RUN folder, or several parts; a process that died holds nothing."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest

from memkern.audit.measure import lock
from memkern.audit.measure.lock import locked
from memkern.audit.pipeline import merge_runs, run_audit
from memkern.errors import PlanError


def never(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.field("run", "two commands on one `--out`")
def test_the_second_command_gets_a_sentence(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    parts = [replace(given, out=tmp_path / f"part{i}", shard=(i, 2)) for i in (1, 2)]
    for part in parts:
        run_audit(part)
    wanted = rf"Expected --out to be used by one command at a time, got .*, on which process {os.getpid()} on .* works"
    given.out.mkdir()
    with locked(given.out, None, never):
        for again in (given, replace(given, shard=(1, 2))):
            with pytest.raises(PlanError, match=wanted):
                run_audit(again)
        with pytest.raises(PlanError, match=wanted):
            merge_runs([part.out for part in parts], given.out)
    assert run_audit(given) is not None
    assert not list(given.out.glob(".*"))


@pytest.mark.field("run", "parts (`--shard`) side by side in one folder")
@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        (None, None, False),
        (None, (1, 2), False),
        ((1, 2), None, False),
        ((1, 2), (1, 2), False),
        ((1, 2), (2, 2), True),
        ((1, 2), (1, 3), True),
    ],
)
def test_parts_work_side_by_side(
    tmp_path: Path, held: tuple[int, int] | None, wanted: tuple[int, int] | None, free: bool
) -> None:
    with ExitStack() as stack:
        stack.enter_context(locked(tmp_path / "run", held, never))
        if free:
            stack.enter_context(locked(tmp_path / "run", wanted, never))
        else:
            with pytest.raises(PlanError):
                stack.enter_context(locked(tmp_path / "run", wanted, never))
    assert not (tmp_path / "run").exists(), "nothing was written"


def test_a_part_that_ends_leaves_the_lock_of_the_others(tmp_path: Path) -> None:
    with locked(tmp_path, (1, 2), never):
        with locked(tmp_path, (2, 2), never):
            pass
        with pytest.raises(PlanError), locked(tmp_path, None, never):
            pass
    with locked(tmp_path, None, never):
        pass
    assert not list(tmp_path.iterdir())


def hold(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    with locked(folder, None, never):
        ready.set()
        signal.pause()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(PlanError, match=f"process {process.pid} on "), locked(tmp_path, None, never):
        pass
    process.kill()
    process.join()
    assert (tmp_path / lock.LOCK).exists(), "its file is still there"
    with locked(tmp_path, None, never):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, kind: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    said: list[str] = []
    with locked(tmp_path, None, said.append):
        pass
    assert said == [f"The file system of {tmp_path} has no locks: make sure that no other command uses it meanwhile."]


def test_a_lock_is_no_link_or_fifo_of_others(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / lock.LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels of symbolic links"), locked(tmp_path, None, never):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
