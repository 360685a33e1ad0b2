"""The processes that share an audit: one, or those that torchrun started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Team:
    """The processes of an audit.

    Attributes:
        rank: Which one this is, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the ranks; one collective. All processes must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def device(self, wanted: str) -> str:
        """The device of this process: each takes a GPU of its machine in turn, unless one is named."""
        if self.size == 1 or wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            return wanted
        return f"cuda:{torch.distributed.get_node_local_rank(self.rank) % torch.cuda.device_count()}"


def join() -> Team:
    """Finds the team: torchrun's processes, those of an initialized torch.distributed, or this one alone.

    Only small messages are exchanged (what was looked at, which shards are done); tensors go through the shards' files.
    So gloo serves, on machines with GPUs as well.
    """
    distributed = torch.distributed
    if not distributed.is_available():
        return Team()
    if not distributed.is_initialized():
        if not distributed.is_torchelastic_launched():
            return Team()
        distributed.init_process_group("gloo")
    return Team(distributed.get_rank(), distributed.get_world_size())


def leave(team: Team) -> None:
    """Ends a team that `join` made."""
    if team.size > 1 and torch.distributed.is_torchelastic_launched():
        torch.distributed.destroy_process_group()
