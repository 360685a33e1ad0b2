"""Every path by name: a backend, and for the CPU kernels an instruction set ("reference", "cpu-avx512", "cpu-avx2")."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from memkern import native


def isas() -> tuple[str, ...]:
    """The instruction sets that the CPU kernels can use on this machine, best first; none without the library."""
    return tuple(native.library().supported_isas()) if native.load()[0] is not None else ()


@contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Runs the CPU kernels with the named instruction set, and puts back the one before.

    Args:
        name: One of ``isas()``.

    Raises:
        RuntimeError: If this processor or build does not have it.
    """
    library = native.library()
    before = library.isa()
    if not library.select_isa(name):
        raise RuntimeError(f"Expected an instruction set of {', '.join(isas())}, got {name!r}")
    try:
        yield
    finally:
        library.select_isa(before)


def paths() -> dict[str, str]:
    """Every path of this version, and why it cannot run here; an empty reason means that it can."""
    library, reason = native.load()
    if library is None:
        return {"reference": "", "cpu": reason}
    usable = isas()
    lacking = "this processor lacks the instruction set"
    return {"reference": ""} | {f"cpu-{isa}": "" if isa in usable else lacking for isa in library.compiled_isas()}


def running_paths() -> list[str]:
    """The paths that run here."""
    return [name for name, reason in paths().items() if not reason]


@contextmanager
def forced_path(path: str) -> Iterator[str]:
    """Forces the instruction set of a path and yields the name to pass as ``backend``."""
    backend, _, isa = path.partition("-")
    if not isa:
        yield backend
        return
    with forced_isa(isa):
        yield backend


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Runs torch and the CPU kernels with this many threads, and puts back the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
