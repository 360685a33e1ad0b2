"""Output of a command: a reader that goes away does not end the work, and names of files are no commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, cast

from memkern._util.text import printable


class _Stream:
    """A stream of text that is written to until its reader is gone, and then to nowhere."""

    def __init__(self, stream: TextIO, *, escaped: bool) -> None:
        self._stream, self._escaped = stream, escaped

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        shown = "\n".join(map(printable, text.split("\n"))) if self._escaped else text
        try:
            self._stream.write(shown)
        except BrokenPipeError:
            self._go_nowhere()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._go_nowhere()

    def _go_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what is still held back is written at the end of the process
        os.close(nowhere)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Guards standard output and error for the block.

    A reader that is gone, as with `| head -1`, is no error. Control characters in messages reach no terminal.
    """
    out = cast("TextIO", _Stream(sys.stdout, escaped=False)) if sys.stdout is not None else open(os.devnull, "w")  # noqa: SIM115
    err = cast("TextIO", _Stream(sys.stderr, escaped=True)) if sys.stderr is not None else open(os.devnull, "w")  # noqa: SIM115
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()
