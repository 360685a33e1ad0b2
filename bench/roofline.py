"""How fast this machine reads an array: the yardstick beside every number."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

READ, SUM = "read (numba)", "x.sum()"


@numba.njit(parallel=True, fastmath=True)
def _add_up(words: Any) -> int:
    total = 0
    for i in numba.prange(words.size):
        total += words[i]
    return total


def block(x: Tensor) -> Tensor:
    """The memory of a dense tensor as one flat float32 tensor, whatever its layout and dtype."""
    storage = torch.empty(0, dtype=torch.uint8, device=x.device).set_(x.untyped_storage())
    nbytes = x.numel() * x.element_size() // 8 * 8
    start = x.storage_offset() * x.element_size()
    return storage[start : start + nbytes].view(torch.float32)


def readers(x: Tensor) -> list[tuple[str, Callable[[], Any]]]:
    """The two reads: numba's parallel sum of the bytes as integers, and torch's sum of them as float32."""
    flat = block(x)
    words: np.ndarray[Any, Any] = flat.numpy().view(np.int64)
    return [(READ, lambda: _add_up(words)), (SUM, flat.sum)]


@functools.cache
def caches() -> tuple[int, int]:
    """Bytes of one core's L2 and of the last-level cache, as the system reports them."""
    sizes = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        text = (folder / "size").read_text().strip()
        sizes[int((folder / "level").read_text())] = int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]]
    largest = sizes.get(max(sizes, default=0), 32 * 2**20)
    return sizes.get(2, 2**20), largest


def size_class(size: int, device: torch.device | None = None) -> str:
    """Where an array of this many bytes stays between two calls: "L2", "L3", "L3/DRAM" (up to twice L3) or "DRAM"."""
    if device is not None and device.type == "cuda":
        return "L2" if size <= torch.cuda.get_device_properties(device).L2_cache_size else "DRAM"
    private, shared = caches()
    if size <= private:
        return "L2"
    return "L3" if size <= shared else "L3/DRAM" if size <= 2 * shared else "DRAM"
