"""Devices by name, and what they say when their memory is full."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from memkern.errors import ArgumentValueError


def usable_device(name: str) -> torch.device:
    """Finds the device of a name.

    Args:
        name: "auto", the first GPU if there is one and otherwise the CPU; or a name of torch's, "cuda:1" say.

    Returns:
        The device.

    Raises:
        ArgumentValueError: If torch knows no such device, or cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentValueError(f"Expected `device` to be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentValueError(f"Expected `device` to be here, got {name!r}; torch sees no GPU: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():  # asked without starting CUDA
        count = torch.cuda.device_count()
        raise ArgumentValueError(f"Expected `device` to be here, got {name!r}; torch sees {count} GPUs, from cuda:0 on")
    if device.type not in ("cpu", "cuda"):
        try:
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError) as error:  # NotImplementedError, of "meta", is a RuntimeError
            raise ArgumentValueError(f"Expected `device` to compute here, got {name!r}: {error}") from error
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that there was too little memory, on a GPU or a CPU."""
    # torch's CPU allocator raises a plain RuntimeError.
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def free_memory(device: torch.device) -> int:
    """Finds the bytes of memory that are free: of the GPU, and of the machine or the container that the process is in.

    Args:
        device: Where memory is needed; a GPU is filled from the machine's memory.

    Returns:
        Bytes; the whole memory of the machine where the system does not say how much is free.
    """
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = Path("/proc/meminfo")
    if known.exists() and (found := re.search(r"MemAvailable:\s+(\d+) kB", known.read_text())):
        free = int(found[1]) * 1024
    limit, used, parts = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current", "memory.stat"))
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdecimal():
        cached = re.search(r"^inactive_file (\d+)", parts.read_text(), re.MULTILINE)  # files that make room when asked
        held = int(used.read_text()) - (int(cached[1]) if cached else 0)
        free = min(free, max(0, int(most) - held))
    return min(free, int(torch.cuda.mem_get_info(device)[0])) if device.type == "cuda" else free
