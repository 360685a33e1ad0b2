"""Signs of life of the processes of an audit.

A process may wait for hours for the others. So each tells every few seconds that it lives, and who waits looks at that:
torch's own timeout would end a long audit, and be too long for a process that died.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from memkern.errors import ProcessError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

BEAT = 3.0
"""Seconds between two signs of life of a process."""

DEAD = 40.0
"""A process without a sign of life for so many seconds is dead."""

_LEFT = "left"


class Liveness:
    """Signs of life of the processes of an audit, and where each of them has arrived, in a store that all see.

    Args:
        store: The store; no other audit uses its keys.
        rank: Number of this process.
        size: How many processes there are.
        keeper: Whether the store ends with this process.
    """

    def __init__(self, store: Store, rank: int, size: int, *, keeper: bool = False) -> None:
        self.store, self.rank, self.size, self.keeper = store, rank, size, keeper
        self._seen: dict[int, tuple[int, float]] = {}
        self._arrivals = 0
        self._end = threading.Event()
        store.set(f"host/{rank}", socket.gethostname())
        self._thread = threading.Thread(target=self._beat, name="memkern-beat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        with suppress(Exception):  # a store that is gone is found by whoever waits
            while not self._end.is_set():
                self.store.add(f"beat/{self.rank}", 1)
                self._end.wait(BEAT)

    def arrive(self) -> None:
        """Waits until all processes are here, as long as all of them live.

        Raises:
            ProcessError: If another process failed, ended or died, or the store did.
        """
        self._arrivals += 1
        mine = f"here/{self._arrivals}/"
        waiting = [rank for rank in range(self.size) if rank != self.rank]
        pause, looked = 0.002, time.monotonic()
        try:
            self.store.set(f"{mine}{self.rank}", "")
            while waiting := [rank for rank in waiting if not self.store.check([f"{mine}{rank}"])]:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.25)
                if time.monotonic() - looked > BEAT / 3:
                    looked = time.monotonic()
                    self._require_life(waiting)
        except RuntimeError as error:
            if isinstance(error, ProcessError):
                raise
            raise ProcessError(f"The process that holds the others together is gone: {line_of(error)}") from error

    def _require_life(self, ranks: list[int]) -> None:
        for rank in ranks:
            if self.store.check([f"end/{rank}"]):
                why = self.store.get(f"end/{rank}").decode(errors="replace")
                if why != _LEFT:
                    raise ProcessError(f"{self._name(rank)} failed: {why}")
            beats = self.store.add(f"beat/{rank}", 0)
            before, since = self._seen.get(rank, (-1, 0.0))
            now = time.monotonic()
            if beats != before:
                self._seen[rank] = (beats, now)
            elif now - since > DEAD:
                raise ProcessError(
                    f"{self._name(rank)} has given no sign of life for {now - since:.0f} seconds: it was killed, or "
                    "its machine is gone; go on with --resume"
                )

    def _name(self, rank: int) -> str:
        known = self.store.check([f"host/{rank}"])
        where = f" on {self.store.get(f'host/{rank}').decode(errors='replace')}" if known else ""
        return f"Process {rank} of {self.size}{where}"

    def leave(self, error: BaseException | None) -> None:
        """Says that this process ends, and why; whoever keeps the store waits until the others know."""
        why = _LEFT if error is None else line_of(error) or type(error).__name__
        with suppress(Exception):
            self.store.set(f"end/{self.rank}", why)
            until = time.monotonic() + DEAD / 4
            others = [f"end/{rank}" for rank in range(self.size)]
            while self.keeper and time.monotonic() < until and not self.store.check(others):
                time.sleep(0.05)
        self._end.set()
        self._thread.join(BEAT)


def line_of(error: BaseException) -> str:
    """Returns what an error says, as one line."""
    return " ".join(str(error).split())[:500]
