"""One race: peers that compute the same thing, checked against float64, then timed in turns (A B C A B C ...)."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bench import clocks, load, roofline

SAMPLE_SECONDS = 0.015  # a sample repeats its call until it takes this long: far above timer and scheduler noise
MIN_ROUNDS, MAX_ROUNDS = 5, 31

# An accurate peer errs like direct differences (plain sums) in its own dtype: at most ACCURATE times what their eager
# form errs, plus a floor of a few float32 roundings. A peer that is known to be less accurate is still timed and
# marked, unless it errs by more than ROUGH where the data are well separated: then it computes something else.
ACCURATE, FLOOR, ROUGH = 8.0, 1e-6, 0.2


@dataclass
class Peer:
    """One way to compute the case's result.

    Attributes:
        name: As printed.
        call: Runs once and returns the result; what it allocates is part of the time.
        role: "ours", "variant" (memkern, another option or op), "peer", or "yardstick" (other work over the same
            bytes, such as one read).
        inexact: Known to be less accurate than direct differences (products instead of differences, 16-bit sums).
        error: Worst error of a result, and its worst error where the data are well separated; None: as the case's.
        budget: What the eager accurate form of this result errs; None: as the case's.
        skip: Why it is not run at all, printed in its row.
    """

    name: str
    call: Callable[[], Any]
    role: str = "peer"
    inexact: bool = False
    error: Callable[[Any], tuple[float, float]] | None = None
    budget: float | None = None
    skip: str = ""


@dataclass
class Case:
    """One op on one input.

    Attributes:
        op: Name of the op.
        shape: Of the input.
        dtype: Of the input.
        layout: How the input lies in memory.
        bytes: Of the input.
        error: From a result to its worst error, and that on well-separated data alone.
        budget: What the eager accurate form errs; the case's measure of "accurate".
        peers: Who runs.
        variant: What else tells this case from others ("unit", "fresh pages").
        note: Printed under the table.
        clock: How calls are timed.
        size: Where the input lies between two calls; default: in which of the processor's caches.
    """

    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes: int
    error: Callable[[Any], tuple[float, float]]
    budget: float
    layout: str = "contiguous"
    variant: str = ""
    peers: list[Peer] = field(default_factory=list)
    note: str = ""
    clock: Callable[[Callable[[], Any], int], float] = clocks.wall
    size: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this case from every other."""
        return (
            self.op,
            "x".join(map(str, self.shape)),
            str(self.dtype).removeprefix("torch."),
            self.layout,
            self.variant,
        )


class Race:
    """Checks the peers of a case, then times them in turns."""

    def __init__(self, case: Case, seconds: float) -> None:
        self.case, self.rows, self.runners, self.load = case, [], [], load.Rounds()
        for peer in case.peers:
            row = {"peer": peer.name, "role": peer.role, "error": None, "accurate": None, "status": "ok"}
            self.rows.append(row)
            if peer.skip:
                row["status"] = f"skipped: {peer.skip}"
            elif self._is_right(peer, row):
                self.runners.append(_Runner(peer, row, self.case.clock))
        self.rounds = self._plan(seconds)

    def _is_right(self, peer: Peer, row: dict[str, Any]) -> bool:
        try:
            result = peer.call()
        except Exception as error:
            row["status"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
            return False
        if peer.role == "yardstick":
            return True
        worst, separated = (peer.error or self.case.error)(result)
        row["error"] = worst
        budget = self.case.budget if peer.budget is None else peer.budget
        row["accurate"] = bool(worst <= ACCURATE * budget + FLOOR)  # False for NaN
        right = separated <= ROUGH if peer.inexact else row["accurate"]
        if not right:
            row["status"] = f"wrong: error {worst:.1e}"
        return bool(right)

    def _plan(self, seconds: float) -> int:
        """Chooses the rounds; peers too slow to run in all of them run in the first one or three."""
        for runner in self.runners:
            runner.calibrate()
        slow = [r for r in self.runners if r.cost * MIN_ROUNDS > seconds / 2]
        for runner in slow:
            runner.last_round = 1 if runner.cost * 3 > seconds / 2 else 3
        spent = sum(r.cost * r.last_round for r in slow)
        each = sum(r.cost for r in self.runners if r not in slow)
        return max(MIN_ROUNDS, min(MAX_ROUNDS, int((seconds - spent) / max(each, 1e-9))))

    def round(self) -> None:
        """Times every peer once."""
        number = self.load.before()
        for runner in self.runners:
            if number < runner.last_round:
                runner.sample(number)
        self.load.after()

    def result(self) -> dict[str, Any]:
        """The case with one row per peer: medians, quartiles, GB/s, shares, factors."""
        kept = self.load.kept(MIN_ROUNDS)
        for runner in self.runners:
            runner.keep(kept)
            runner.summarize(self.case.bytes)
        times = {r.peer.name: r for r in self.runners}
        readers = [times[name] for name in (roofline.READ, roofline.SUM) if name in times]
        ours = next((r for r in self.runners if r.peer.role == "ours"), None)
        for runner in self.runners:
            if readers:
                runner.row["of_read"] = min(runner.ratio(reader) for reader in readers)
            if roofline.SUM in times:
                runner.row["of_sum"] = runner.ratio(times[roofline.SUM])
            if ours is not None:
                runner.row["factor"] = ours.ratio(runner)
        op, shape, dtype, layout, variant = self.case.key
        return {
            "op": op, "shape": shape, "dtype": dtype, "layout": layout, "variant": variant, "bytes": self.case.bytes,
            "size": self.case.size or roofline.size_class(self.case.bytes),
            "views": self.case.shape[1] if len(self.case.shape) > 2 else 1,
            "read_by": min(readers, key=lambda r: r.row["ms"]).peer.name if readers else "",
            **self.load.record(kept),
            "budget": self.case.budget, "note": self.case.note, "rows": self.rows,
        }  # fmt: skip


class _Runner:
    """The timing of one peer."""

    def __init__(self, peer: Peer, row: dict[str, Any], clock: Callable[[Callable[[], Any], int], float]) -> None:
        self.peer, self.row, self.clock = peer, row, clock
        self.samples: dict[int, float] = {}  # round -> seconds a call
        self.inner, self.cost, self.last_round = 1, 0.0, MAX_ROUNDS

    def calibrate(self) -> None:
        """Finds how often a sample repeats the call, from the quickest of a few tries (others may run beside us)."""
        once, calls = self._time(1), 1
        while once * calls < SAMPLE_SECONDS / 4 and calls < 10_000:
            calls *= 4
            once = self._time(calls)
        if once < 0.5:
            once = min(once, *(self._time(calls) for _ in range(3)))
        self.inner = max(1, math.ceil(SAMPLE_SECONDS / max(once, 1e-9)))
        self.cost = once * (self.inner + 1)

    def sample(self, number: int) -> None:
        if self.cost < 1.0:
            self.peer.call()  # untimed: every sample starts as warm as a repeated call is
        self.samples[number] = self._time(self.inner)

    def _time(self, calls: int) -> float:
        return self.clock(self.peer.call, calls)

    def keep(self, rounds: list[int]) -> None:
        """Leaves out the samples of disturbed rounds, unless it ran in no other."""
        self.samples = {number: self.samples[number] for number in rounds if number in self.samples} or self.samples

    def summarize(self, size: int) -> None:
        low, middle, high = np.percentile(list(self.samples.values()), [25, 50, 75])
        self.row.update(
            ms=middle * 1e3, ms_q25=low * 1e3, ms_q75=high * 1e3, samples=len(self.samples), inner=self.inner,
            gbs=size / middle / 1e9,
        )  # fmt: skip

    def ratio(self, other: _Runner) -> float:
        """How many times the time of this one the other takes: the median over the rounds both ran in."""
        both = self.samples.keys() & other.samples.keys()
        if not both:
            return other.row["ms"] / self.row["ms"]
        return float(np.median([other.samples[number] / self.samples[number] for number in both]))


def run(benchmark: Any, case: Case, seconds: float) -> dict[str, Any]:
    """Checks and times a case; pytest-benchmark drives the rounds."""
    collecting = gc.isenabled()
    race = Race(case, seconds)
    gc.collect()
    gc.disable()
    try:
        benchmark.pedantic(race.round, rounds=race.rounds, iterations=1)
    finally:
        if collecting:
            gc.enable()
    result = race.result()
    torch.compiler.reset()
    return result
