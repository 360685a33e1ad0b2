"""What the parts share: the process of a checkout, its public names, the result that it writes."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frozen.normalise import Normaliser

MOVED = {
    "Options": ("memkern.audit:Options", "memkern.audit.options:Options"),
    "run_audit": ("memkern.audit:run_audit", "memkern.audit.run:run_audit"),
    "read_run": ("memkern.audit:read_run", "memkern.audit.store:read_run"),
    "write_report": ("memkern.audit:write_report", "memkern.audit.report:write_report"),
}
"""Public name -> where it is looked for, the new place first."""


def public(name: str) -> Any:
    """Looks a public name up where `MOVED` says; `None` if it is in none of these places."""
    for place in MOVED[name]:
        module, _, attribute = place.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), attribute)
    return None


@dataclass
class Found:
    """What a part has found.

    Attributes:
        entries: Name -> digest or text.
        not_compared: Name -> why this machine cannot run it.
    """

    entries: dict[str, str] = field(default_factory=dict)
    not_compared: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: str) -> None:
        """Adds an entry; a name stands once."""
        if name in self.entries:
            raise ValueError(f"Expected each entry once, got {name!r} again")
        self.entries[name] = value


def main(part: Callable[[Found, Path], None]) -> None:
    """Runs a part in the process that `compare_checkouts.py` has started: `CHECKOUT RESULT` on the command line."""
    checkout, result = map(Path, sys.argv[1:3])
    import memkern

    if not Path(memkern.__file__).is_relative_to(checkout):
        raise RuntimeError(f"Expected memkern to come from {checkout}, got {memkern.__file__}")
    found = Found()
    part(found, checkout)
    whole = {"entries": found.entries, "not_compared": found.not_compared, "machine": machine()}
    result.write_text(json.dumps(whole), encoding="utf-8")


def machine() -> dict[str, str]:
    """What the bits of a forward pass depend on beside the code."""
    import torch

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return {"processor": line.partition(":")[2].strip(), "torch": torch.__version__}
    return {"processor": platform.processor(), "torch": torch.__version__}


def normaliser(checkout: Path) -> Normaliser:
    """A normaliser that knows the folder of the process and the checkout."""
    return Normaliser(
        {str(Path.cwd()): "<work>", str(checkout): "<checkout>", os.path.realpath(sys.prefix): "<python>"}
    )


# ---- the command line -----------------------------------------------------------------------------------------------


def preload(*modules: str) -> None:
    """Imports what the commands need, once for all of them."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def command(arguments: list[str], environment: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Runs `python -m memkern ARGUMENTS` in a fork of this process, which has imported torch and started no thread.

    Args:
        arguments: Of the command line.
        environment: Variables to set.

    Returns:
        ("exit", code), ("stdout", text), ("stderr", text); not normalised.
    """
    streams = [Path.cwd().parent / name for name in ("stdout", "stderr")]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(arguments, environment or {}, streams)
    _, status = os.waitpid(pid, 0)
    yield "exit", str(os.waitstatus_to_exitcode(status))
    for stream in streams:
        yield stream.name, stream.read_text(encoding="utf-8")


def _child(arguments: list[str], environment: Mapping[str, str], streams: list[Path]) -> None:
    code = 70
    try:
        for number, stream in enumerate(streams, 1):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(environment)
        sys.argv = ["memkern", *arguments]
        runpy.run_module("memkern", run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
