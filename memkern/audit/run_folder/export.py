"""Exports: the record that each file of `memkern.audit.run_folder.exports` binds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memkern.audit.run_folder.reader import Run


@dataclass(frozen=True)
class Export:
    """A finished audit in the format of another tool.

    Attributes:
        name: The name of the file, and of the option of `memkern audit` and `memkern merge`.
        summary: What the option does, for `--help` and the docs.
        order: Where the option stands among those of other exports: they are sorted by this number.
        packages: What has to be installed: module, distribution, and the extra of memkern that brings it, "" for none.
        write: Writes the files into the folder of the audit, atomically, and returns them.
    """

    name: str
    summary: str
    order: int
    packages: Sequence[tuple[str, str, str]]
    write: Callable[[Run], list[Path]]

    @property
    def flag(self) -> str:
        """Flag of the option."""
        return f"--{self.name}"
