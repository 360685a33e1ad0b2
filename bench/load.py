"""How much of the machine other work took while something was timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
QUIET = 0.10  # a round in which others took more than this share of the processors is left out if enough remain


class Meter:
    """The share of all processors that other processes (and, on a virtual machine, the host) took since ``start``."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts again from now."""
        self.wall, self.mine, self.busy = time.perf_counter(), self._mine(), self._busy()

    def share(self) -> float:
        """In [0, 1]; 0 where the system does not tell."""
        wall = time.perf_counter() - self.wall
        others = (self._busy() - self.busy) - (self._mine() - self.mine)
        return min(1.0, max(0.0, others / max(wall * (os.cpu_count() or 1), 1e-9)))

    @staticmethod
    def _mine() -> float:
        times = os.times()
        return times.user + times.system

    @staticmethod
    def _busy() -> float:
        if not STAT.exists():
            return 0.0
        user, nice, system, _, _, irq, softirq, steal = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Rounds:
    """The share that others took, round by round; rounds shorter than the system's clock can tell share one reading."""

    LEAST_SECONDS = 0.2  # the system counts processor time in ticks of 10 ms

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.count, self.meter = 0, Meter()

    def before(self) -> int:
        """Call before a round; returns its number."""
        if self.count == len(self.shares):
            self.meter.start()
        return self.count

    def after(self, *, last: bool = False) -> None:
        """Call after a round, or with ``last`` after all of them."""
        self.count += not last
        if last or time.perf_counter() - self.meter.wall >= self.LEAST_SECONDS:
            self.shares += [self.meter.share()] * (self.count - len(self.shares))

    def kept(self, least: int) -> list[int]:
        """Which rounds count: the quiet ones; if they are fewer than ``least``, the ``least`` quietest."""
        self.after(last=True)
        quiet = [number for number, share in enumerate(self.shares) if share <= QUIET]
        if len(quiet) >= least:
            return quiet
        return sorted(sorted(range(self.count), key=lambda number: self.shares[number])[:least])

    def record(self, kept: list[int]) -> dict[str, float]:
        """What a reader should know: the others' share in the rounds that count, and how many count."""
        shares = sorted(self.shares[number] for number in kept)
        return {"disturbed": shares[len(shares) // 2], "rounds": len(kept), "rounds_left_out": self.count - len(kept)}
