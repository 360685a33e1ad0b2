"""The processes that share an audit: one, or those that torchrun started.

Only small messages are exchanged (what was looked at, which shards are done); tensors go through the files of the
readings. So gloo serves, on machines with GPUs as well.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch

from memkern.audit.measure.liveness import Liveness, line_of
from memkern.errors import ProcessError

T = TypeVar("T")

_LONG = timedelta(days=365)


@dataclass(frozen=True)
class ProcessGroup:
    """Group of the processes of an audit.

    Attributes:
        rank: Number of this process, from 0.
        size: How many processes there are.
        liveness: Signs of life of all processes; `None` for a process of its own.
        made_here: Whether torch's group was made for the audit, and ends with it.
    """

    rank: int = 0
    size: int = 1
    liveness: Liveness | None = field(default=None, compare=False)
    made_here: bool = False

    def gather(self, value: T) -> list[T]:
        """Collects every process's value, in the order of the ranks; all processes must call it.

        Args:
            value: The value of this process.

        Returns:
            The values.

        Raises:
            ProcessError: If another process failed or died.
        """
        if self.size == 1:
            return [value]
        if self.liveness is not None:
            self.liveness.arrive()
        values: list[T] = [value] * self.size
        try:
            torch.distributed.all_gather_object(values, value)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise ProcessError(f"Another process ended while messages were exchanged: {line_of(error)}") from error
        return values

    def device(self, wanted: str) -> str:
        """Names the device of this process: each takes a GPU of its machine in turn, unless one is named."""
        if self.size == 1 or wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            return wanted
        return f"cuda:{torch.distributed.get_node_local_rank(self.rank) % torch.cuda.device_count()}"

    def run_together(self, work: Callable[[], None]) -> None:
        """Does this process's share of a work and waits for the others; all processes must call it.

        An error in one process is an error in all, not a wait without end.

        Args:
            work: Does the share of this process.

        Raises:
            ProcessError: In the processes whose own share went well, if another one's did not.
        """
        error: BaseException | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        failed = [(rank, text) for rank, text in enumerate(self.gather(None if error is None else str(error))) if text]
        if error is not None:
            raise error
        if failed:
            raise ProcessError(f"Process {failed[0][0]} of {self.size} failed: {failed[0][1]}")


def join_group() -> ProcessGroup:
    """Finds the processes: torchrun's, those of an initialized torch.distributed, or this one alone.

    Returns:
        The group; `leave_group` ends it.

    Raises:
        ProcessError: If torchrun started this process and the others do not come.
    """
    distributed = torch.distributed
    if not distributed.is_available():
        return ProcessGroup()
    if distributed.is_initialized():
        rank, size = distributed.get_rank(), distributed.get_world_size()
        return ProcessGroup(rank, size, _own_store(rank, size)) if size > 1 else ProcessGroup()
    if not distributed.is_torchelastic_launched():
        return ProcessGroup()
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        shared, rank, size = next(rendezvous("env://"))
        # A second audit of the same processes finds no keys of the first one.
        store = PrefixStore(f"memkern/{shared.add(f'memkern/joined/{rank}', 1)}", shared)
        # gloo's own collectives begin when all have arrived, and so never wait long.
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_LONG)
    except RuntimeError as error:
        raise ProcessError(f"Expected the other processes of torchrun to come, got: {line_of(error)}") from error
    return ProcessGroup(rank, size, Liveness(PrefixStore("life", store), rank, size), made_here=True)


def _own_store(rank: int, size: int) -> Liveness:
    """Makes a store beside a group that another made, whose own store is not for others; the first process keeps it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    where: list[tuple[str, int] | None] = [None]
    store = None
    if rank == 0:
        host = _address()
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        where = [(host, store.port)]
    torch.distributed.broadcast_object_list(where, src=0)
    if store is None:
        assert where[0] is not None
        store = TCPStore(*where[0], is_master=False)
    return Liveness(store, rank, size, keeper=rank == 0)


def _address() -> str:
    """Name of this machine, if it leads anywhere."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, 0)
    except OSError:
        return "localhost"
    return name


def leave_group(group: ProcessGroup, error: BaseException | None = None) -> None:
    """Ends a group that `join_group` made; `error` is told to those who wait for this process."""
    if group.liveness is not None:
        group.liveness.leave(error)
    if group.made_here:
        torch.distributed.destroy_process_group()
