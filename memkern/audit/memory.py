"""How the process of an audit gets its memory."""

from __future__ import annotations

import ctypes
import sys

# Numbers of glibc's malloc.h, which are part of its ABI.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for the next layer, for the rest of this process.

    glibc gives an activation of more than 32 MB back to the system as soon as it is freed, and the next layer takes a
    page fault for every 4 KB of its own: ResNet9 on 320 views ran 1.1 to 1.4 times as fast without. The most memory
    that a process holds stays what it was. Only for a process of our own, like that of `memkern audit`: it cannot be
    undone.

    Returns:
        Whether there was a glibc to tell; others are left as they are.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
