"""Functions of torch.distributed that training needs; with one process each is the identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def rank_and_world() -> tuple[int, int]:
    """Returns the number of this process and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(part: Tensor) -> Tensor:
    """Joins the rows of all processes, `[world * N, ...]`, so that gradients find their way back."""
    if rank_and_world()[1] == 1:
        return part
    joined: Tensor = _Gather.apply(part.contiguous())
    return joined


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, part: Tensor) -> Tensor:
        rows = [torch.empty_like(part) for _ in range(rank_and_world()[1])]
        dist.all_gather(rows, part)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        # Every process holds the same loss: summed here and averaged over processes by DDP, the gradient of a
        # parameter is that of one process with all rows.
        rank, world = rank_and_world()
        total = grad.contiguous()
        dist.all_reduce(total)
        return total.chunk(world)[rank]


def mean_over_processes(value: Tensor) -> float:
    """Returns the mean over all processes of a number, 0-d."""
    world = rank_and_world()[1]
    if world > 1:
        dist.all_reduce(value)
    return float(value / world)


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Joins the processes that torchrun started, if it did, and yields this process's device.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, one GPU per process).
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield device
        return
    gpu = dist.get_node_local_rank() if device.startswith("cuda") else None
    dist.init_process_group("gloo" if gpu is None else "nccl")
    try:
        yield device if gpu is None else f"cuda:{gpu}"
        # DDP keeps gloo's threads alive, and one that still held a tensor while Python ends would abort the process:
        # the last collective is one without tensors, after which all processes end together.
        dist.barrier(device_ids=None if gpu is None else [gpu])
    finally:
        dist.destroy_process_group()
