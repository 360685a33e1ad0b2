"""How the process of an audit gets its memory."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import resource
import sys
from pathlib import Path

# Numbers of glibc's malloc.h, which are part of its ABI.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def set_up_process() -> None:
    """Both of the following, in the order in which they work: for a process of our own, before its first tensor."""
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
    page fault for every 4 KB of its own: the forward passes of ResNet9 on 320 views took 1.6 times as long (1.9 beside
    huge pages), those of ViT-Tiny 1.3 times (1.6). Only for a process of our own, like that of `memkern audit`: it
    cannot be undone.

    Call `use_huge_pages` before. Without them small blocks end up between the large ones, and what is left free no
    longer holds the next activation: a pass of ViT-Tiny held 1.0 GB in some processes and 3 to 4 in others, on huge
    pages 1.1 to 1.5. What of this is left is the work of `set_aside_small_blocks`.

    Returns:
        Whether there was a glibc to tell; others are left as they are.
    """
    library = _glibc()
    return (
        library is not None
        and bool(library.mallopt(_MMAP_MAX, 0))
        and bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    )


def return_freed_memory() -> bool:
    """Has the C library give the memory that is free now back to the system, also what `keep_freed_memory` kept.

    For the end of work whose memory the next work has no use for: the preparation of an audit with two ResNet50 left
    260 MB free, in pieces too small for the activations of its passes.

    Returns:
        Whether there was memory to give back, as far as a glibc says; others are left as they are.
    """
    library = _glibc()
    return library is not None and bool(library.malloc_trim(ctypes.c_size_t(0)))


@functools.cache
def set_aside_small_blocks() -> bool:
    """Has the C library hold free blocks of every small size, so that small objects do not end up between activations.

    glibc cuts a small block, if it has no free one of its size, out of what lies between two activations, or of what
    one has left. The hole there is then as large as an activation, but before glibc 2.38 none fits in again, because
    torch asks for a page more, to align it: 96 bytes cost 30 MB. With 800 blocks of each size up to 1 KB set aside, and
    first results out of the way (`room.Room`), the passes of ViT-Tiny held 1.13 to 1.32 GiB instead of 1.5 to 1.75,
    those of two ResNet50 1.27 to 1.35 instead of 1.40 to 1.43.

    They take 26 MB and 60 ms, once per process. For what runs after `keep_freed_memory`: otherwise glibc has large
    activations outside its heap.

    Returns:
        Whether there is a glibc to do so; others are left as they are.
    """
    library = _glibc()
    if library is None:
        return False
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    blocks = []
    for size in range(24, 1025, 16):  # glibc rounds to these
        for _ in range(800):
            blocks.append(library.malloc(size))
            library.malloc(24)  # stays, so that its neighbours do not become one block
    for block in blocks:
        library.free(block)
    return True


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
