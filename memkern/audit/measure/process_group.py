"""The processes that share an audit: one, or those that torchrun started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from memkern.errors import ProcessError

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Group of the processes of an audit.

    Attributes:
        rank: Number of this process, from 0.
        size: How many processes there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, value: T) -> list[T]:
        """Collects every process's value, in the order of the ranks; one collective. All processes must call it."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        torch.distributed.all_gather_object(values, value)
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

    Only small messages are exchanged (what was looked at, which shards are done); tensors go through the shards' files.
    So gloo serves, on machines with GPUs as well.
    """
    distributed = torch.distributed
    if not distributed.is_available():
        return ProcessGroup()
    if not distributed.is_initialized():
        if not distributed.is_torchelastic_launched():
            return ProcessGroup()
        distributed.init_process_group("gloo")
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size())


def leave_group(group: ProcessGroup) -> None:
    """Ends a group that `join_group` made."""
    if group.size > 1 and torch.distributed.is_torchelastic_launched():
        torch.distributed.destroy_process_group()
