"""Planned differences between two checkouts: where they are, and why."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Difference:
    """An entry that two captures do not have in common.

    Attributes:
        key: Part and name of the entry, "runs/pair/samples/sslmem" say.
        a: What the first capture has; `None` if it has no such entry.
        b: The same of the second capture.
    """

    key: str
    a: str | None
    b: str | None


@dataclass
class Planned:
    """A difference that is meant.

    Attributes:
        pattern: Of the keys: the name of a part, "/", and a glob.
        reason: Why entries like this differ, in one sentence.
        found: Keys of the differences that the pattern has explained.
    """

    pattern: str
    reason: str
    found: list[str] = field(default_factory=list)

    @property
    def part(self) -> str:
        """The part that the pattern speaks of."""
        return self.pattern.partition("/")[0]


def read(file: Path) -> list[Planned]:
    """Reads `[[planned]]` tables with `pattern` and `reason`; a file that is missing has none.

    Raises:
        ValueError: If a table lacks one of the two, has more, or its pattern names no part.
    """
    if not file.exists():
        return []
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    tables = tomllib.loads(file.read_text(encoding="utf-8")).get("planned", [])
    for table in tables:
        if set(table) != {"pattern", "reason"} or not table["reason"] or "/" not in table["pattern"].strip("*"):
            raise ValueError(f"Expected `pattern` (part/glob) and `reason` in each [[planned]] of {file}, got {table}")
    return [Planned(**table) for table in tables]


def differences(a: Mapping[str, str], b: Mapping[str, str], part: str) -> list[Difference]:
    """Lists the entries of two captures of a part that are not equal, by key."""
    keys = sorted(a.keys() | b.keys())
    return [Difference(f"{part}/{key}", a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)]


def explains(plan: Sequence[Planned], difference: Difference) -> bool:
    """Whether a planned difference explains this one; every pattern that does takes note of it."""
    matching = [each for each in plan if fnmatch.fnmatchcase(difference.key, each.pattern)]
    for each in matching:
        each.found.append(difference.key)
    return bool(matching)
