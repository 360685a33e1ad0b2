"""The lock of a RUN folder: one command works on it, or several parts of one audit.

The system keeps it (`flock`), on a shared file system for all machines, and lets go of it when the process ends,
however it ends. So no lock is ever stale. The file says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from memkern.errors import PlanError

LOCK = ".memkern.lock"
"""The file whose lock is held: shared by parts of one audit, by one command alone otherwise."""

_UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@contextmanager
def locked(folder: Path, part: tuple[int, int] | None, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a RUN folder for the block.

    Args:
        folder: The folder; made if it is missing.
        part: Part i of n that is worked on; other parts may be worked on meanwhile. `None`: all of it.
        log: Told where the file system has no locks.

    Raises:
        PlanError: If another process works on the folder; the message says which.
        OSError: If the lock's file cannot be written.
    """
    made_here = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    held: list[tuple[Path, int]] = []
    try:
        names = [(LOCK, fcntl.LOCK_EX)]
        if part is not None:
            names = [(LOCK, fcntl.LOCK_SH), (f"{LOCK}.{part[0]}-of-{part[1]}", fcntl.LOCK_EX)]
        for name, kind in names:
            held.append((folder / name, _hold(folder / name, kind, log)))
        yield
    finally:
        for path, handle in reversed(held):
            _let_go(path, handle)
        if made_here:
            with suppress(OSError):  # nothing was written: what was wrong leaves no folder behind
                folder.rmdir()


def _hold(path: Path, kind: int, log: Callable[[str], None]) -> int:
    """Opens and locks a file that is still under its name when the lock is there: another holder may remove it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    return _signed(handle)
        except BlockingIOError:
            who = os.read(handle, 300).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise PlanError(
                f"Expected --out to be used by one command at a time, got {path.parent}, on which {who} works; wait "
                "for it or end it, or use another --out"
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(handle)
                raise
            log(f"The file system of {path.parent} has no locks: make sure that no other command uses it meanwhile.")
            return _signed(handle)
        os.close(handle)


def _signed(handle: int) -> int:
    """Writes into the file who holds it."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} (since {now})\n".encode(), 0)
    return handle


def _let_go(path: Path, handle: int) -> None:
    """Removes the file, unless another part holds it as well."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    os.close(handle)
