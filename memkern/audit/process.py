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
    """Puts activations on huge pages and keeps their memory.

    Only a command calls this, before its first tensor, and never a library function: the settings hold for the whole
    process until it ends.
    """
    use_huge_pages()
    keep_freed_memory()


def use_huge_pages() -> None:
    """Has torch lay large tensors on huge pages, for the rest of this process and in its children.

    The function sets torch's variable `THP_MEM_ALLOC_ENABLE`, which torch reads when it makes its first tensor, so the
    call has to come before. A setting of the user's stands, and where the system has no huge pages nothing changes.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for the next layer, for the rest of this process.

    glibc gives a large activation back to the system as soon as it is freed, and the next layer takes a page fault for
    every page of its own, which costs more than filling it (docs/performance.md). The setting cannot be undone, so it
    is only for a process of one's own, like that of `memkern audit`.

    Call `use_huge_pages` before. Without huge pages small blocks end up between the large ones, and what is left free
    no longer holds the next activation: peak memory grows several times over in some processes.

    Returns:
        True if there is a glibc to tell; other C libraries are left as they are.
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
    """Returns the most memory that this process has held so far, in bytes.

    On Linux the number comes from /proc and not from `getrusage`, where a process begins with the peak of its parent.
    """
    status = Path("/proc/self/status")
    held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if held is not None:
        return int(held[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
