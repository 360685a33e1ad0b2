"""Where the results of a first pass are kept: in one block, not between the activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Kept(NamedTuple):
    """A tensor in a room: where it begins, and its shape. No tensor, which would have a place in memory of its own."""

    start: int
    shape: tuple[int, ...]


class Room:
    """One block of memory for small float32 results on the CPU.

    Results that are made one after the other, while a model runs, lie where activations have just been. What these left
    is then cut up, and none of their size fits in again (`memory.set_aside_small_blocks`): passes of ViT-Tiny held 200
    to 300 MB more.

    Args:
        elements: How many it has room for.
    """

    def __init__(self, elements: int) -> None:
        self._block = torch.empty(elements, dtype=torch.float32, device="cpu")
        self._used = 0

    def take_in(self, results: Sequence[Tensor | None]) -> list[Tensor | Kept | None]:
        """Copies results into the block; those of another kind, or for which there is no room, stay what they are."""
        return [self._taken_in(x) for x in results]

    def _taken_in(self, x: Tensor | None) -> Tensor | Kept | None:
        if x is None or not x.is_cpu or x.dtype != torch.float32 or self._used + x.numel() > len(self._block):
            return x
        kept = Kept(self._used, tuple(x.shape))
        self._used += x.numel()
        self._block[kept.start : self._used].copy_(x.flatten())
        return kept

    def give_out(self, results: Sequence[Tensor | Kept | None]) -> list[Tensor | None]:
        """The results as tensors, for which nothing is copied."""
        return [self._given_out(x) if isinstance(x, Kept) else x for x in results]

    def _given_out(self, kept: Kept) -> Tensor:
        size = torch.Size(kept.shape)
        return self._block[kept.start : kept.start + size.numel()].view(size)
