"""Where a newly allocated gradient lies: in fresh pages of the system, or in pages that were used before.

A page that is touched for the first time costs more than the arithmetic that fills it, and glibc gives large blocks
back to the system when they are freed. Both settings hold for every peer.
"""

from __future__ import annotations

import ctypes
import platform

from memkern.audit.process import keep_freed_memory

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4


def available() -> bool:
    """Whether this is glibc, the only allocator we can tell."""
    return platform.libc_ver()[0] == "glibc"


def warm_pages() -> None:
    """Keeps freed memory in the process: after the first call a gradient lies in pages that were used before."""
    if not keep_freed_memory():
        raise OSError("mallopt failed")


def fresh_pages() -> None:
    """Takes every block of 128 KiB or more from the system and gives it back when it is freed (glibc's first state)."""
    _mallopt((M_MMAP_MAX, 65536), (M_MMAP_THRESHOLD, 128 * 1024), (M_TRIM_THRESHOLD, 128 * 1024))
    ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))  # what lies free in the heap now


def _mallopt(*settings: tuple[int, int]) -> None:
    libc = ctypes.CDLL(None)
    for name, value in settings:
        if libc.mallopt(name, value) != 1:
            raise OSError(f"mallopt({name}, {value}) failed")
