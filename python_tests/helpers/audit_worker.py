"""Audits in forked processes that are killed, or work together; started once by test_killed.py.

    python audit_worker.py FOLDER

Importing torch takes seconds, so one process imports it and forks before it has started any thread.
"""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagehash  # noqa: F401  (this and the next: imported once here, not by every process)
import jinja2  # noqa: F401
import pyarrow.parquet  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.stats  # noqa: F401
import torch
from audit_helpers import arguments, family

from memkern import cli
from memkern.audit.options import Options
from memkern.audit.pipeline import merge_runs, run_audit


def forked(work: Callable[[], object]) -> int:
    """Starts work in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> int:
    """Waits; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def go_on(given: Options) -> Options:
    return replace(given, resume=(given.out / "plan.json").exists())


def dies_at(given: Options, count: int, after: bool) -> Callable[[], None]:
    """The audit, killed when it puts its `count`-th file into place: just before or just after."""

    def work() -> None:
        moved = [0]
        original = pathlib.Path.replace

        def deadly(self: Path, target: object) -> object:
            moved[0] += 1
            if moved[0] == count and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(self, target)
            if moved[0] == count and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        pathlib.Path.replace = deadly
        run_audit(go_on(given))

    return work


def killed_at_every_file(given: Options) -> int:
    """Each attempt dies at its first, second, … sixth file, until one is not killed: the last step writes five."""
    for attempt in range(60):
        code = ended(forked(dies_at(given, attempt % 6 + 1, attempt % 4 < 2)))
        if code == 0:
            assert ended(forked(lambda: run_audit(go_on(given)))) == 0  # removes what the last kill may have left
            return attempt
        assert code == -signal.SIGKILL, code
    raise AssertionError("it never ends")


def killed_at_random(given: Options, seconds: float) -> int:
    """Each attempt is killed after a random time, longer from time to time, until one is faster."""
    chance = random.Random(0)
    for attempt in range(60):
        pid = forked(lambda: run_audit(go_on(given)))
        time.sleep(chance.uniform(0, seconds) * (0.25 + attempt / 8))
        os.kill(pid, signal.SIGKILL)  # a process that has ended waits to be collected: no other has its number
        if ended(pid) == 0:
            assert ended(forked(lambda: run_audit(go_on(given)))) == 0
            return attempt
    raise AssertionError("it never ends")


def killed_a_hundred_times(given: Options, seconds: float, whole: dict[str, bytes]) -> dict[str, int]:
    """Whole audits, each gone on with until it is complete, until 100 of their processes were killed at random."""
    chance = random.Random(1)
    counts = {"KILL": 0, "TERM": 0, "INT": 0, "complete": 0}
    line = arguments(given)
    while sum(counts[name] for name in ("KILL", "TERM", "INT")) < 100:
        more = ["--resume"] if (given.out / "plan.json").exists() else []
        pid = forked(lambda more=more: os._exit(cli.main([*line, *more])))
        name = chance.choice(("KILL", "TERM", "INT"))
        time.sleep(chance.uniform(0.02, seconds))
        os.kill(pid, getattr(signal, f"SIG{name}"))
        code = ended(pid)
        if code in (-signal.SIGKILL, 130, -signal.SIGTERM, -signal.SIGINT):
            counts[name] += 1
        elif code == 0:
            counts["complete"] += 1
            assert {each: (given.out / each).read_bytes() for each in whole} == whole
            shutil.rmtree(given.out)
        else:
            raise AssertionError((name, code))
    if (given.out / "plan.json").exists():
        assert ended(forked(lambda: os._exit(cli.main([*line, "--resume"])))) == 0
    else:
        assert ended(forked(lambda: os._exit(cli.main(line)))) == 0
    return counts


def together(given: Options, size: int, store: Path) -> None:
    """As many processes with gloo."""

    def work(rank: int) -> None:
        where = torch.distributed.FileStore(str(store), size)
        torch.distributed.init_process_group("gloo", store=where, rank=rank, world_size=size)
        run_audit(given)
        torch.distributed.destroy_process_group()

    pids = [forked(lambda rank=rank: work(rank)) for rank in range(size)]
    codes = [ended(pid) for pid in pids]
    assert codes == [0] * size, codes


def main(folder: Path) -> None:
    given = family(folder, 2, 1)
    torch.set_num_threads(1)
    start = time.monotonic()
    assert ended(forked(lambda: run_audit(replace(given, out=folder / "whole")))) == 0
    seconds = time.monotonic() - start
    every = killed_at_every_file(replace(given, out=folder / "every"))
    chance = killed_at_random(replace(given, out=folder / "chance"), seconds)
    print(f"killed {every} times at a file, {chance} times at random")
    whole = {path.name: path.read_bytes() for path in (folder / "whole").glob("*.parquet")}
    hundred = killed_a_hundred_times(replace(given, out=folder / "hundred"), 1.3 * seconds, whole)
    print(f"killed by signal: {hundred}")
    for size in (2, 5):  # there are three shards: two of the five processes share one by encoder
        together(replace(given, out=folder / f"team{size}"), size, folder / f"store{size}")
    parts = [replace(given, out=folder / f"part{i}", shard=(i, 2)) for i in (1, 2)]
    for part in parts:
        assert ended(forked(lambda part=part: run_audit(part))) == 0
    merge = forked(lambda: merge_runs([folder / "part2", folder / "part1"], folder / "merged"))
    assert ended(merge) == 0
    alone = replace(given, out=folder / "shared")
    for i in (1, 2):
        assert ended(forked(lambda i=i: run_audit(replace(alone, shard=(i, 2))))) == 0
    assert ended(forked(lambda: merge_runs([folder / "shared"], folder / "shared"))) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
