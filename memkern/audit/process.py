"""Settings of the allocator for a command's own process, and the most memory that a process has held."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from pathlib import Path

# Numbers of glibc's malloc.h, which are part of its ABI.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def set_up_process() -> None:
    """Puts activations on huge pages and keeps their memory: for a command's own process, before its first tensor.

    A library function never calls it: what it sets holds for the whole process, for its rest.
    """
    use_huge_pages()
    keep_freed_memory()


def use_huge_pages() -> None:
    """Has torch lay every tensor of 2 MB or more on huge pages, for the rest of this process and in its children.

    It sets torch's variable `THP_MEM_ALLOC_ENABLE`, which torch reads when it makes its first tensor: call this before.
    A setting of the user's stands, and where the system has no huge pages to give nothing changes.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for the next layer, for the rest of this process.

    glibc gives an activation of more than 32 MB back to the system as soon as it is freed, and the next layer takes a
    page fault for every 4 KB of its own: forward passes take 1.3 to 1.9 times as long (docs/audit.md). Only for a
    process of one's own, like that of `memkern audit`: it cannot be undone.

    Call `use_huge_pages` before. Without huge pages small blocks end up between the large ones, and what is left free
    no longer holds the next activation: the same pass holds 1.0 GB in some processes and 3 to 4 GB in others.

    Returns:
        Whether there was a glibc to tell; others are left as they are.
    """
    library = _glibc()
    return (
        library is not None
        and bool(library.mallopt(_MMAP_MAX, 0))
        and bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    )


def _glibc() -> ctypes.CDLL | None:
    """The process's glibc, if it has one."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def most_memory() -> int:
    """The most memory that this process has held so far, in bytes.

    Not `getrusage` where the system says better: on Linux a process that another one starts begins there with the peak
    of its parent.
    """
    status = Path("/proc/self/status")
    held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if held is not None:
        return int(held[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
