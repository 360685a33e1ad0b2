"""Registries: the files of a package each bind one record, and what is bound is what there is.

A new kind of encoder, image reader, export or report section is one new file; no list names it. Nothing runs when such
a file is imported: it binds a frozen dataclass with a field `name`; optional packages are imported in its functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Protocol, TypeVar


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str:
        """The name that tells a record from all others of its registry."""


R = TypeVar("R", bound=Named)


@cache
def records(
    package: ModuleType, binding: str, kind: type[R], *, order: str = "name", plugins: str = ""
) -> tuple[R, ...]:
    """Collects the records of a package, once per process.

    Args:
        package: The package; each of its modules and sub-packages is a file of the registry, those whose name starts
            with "_" left out.
        binding: The name that each file binds to its record.
        kind: The frozen dataclass of the records, with a field `name`.
        order: The field by which the records are sorted; records with equal ones are sorted by name.
        plugins: Group of entry points that name more records, of other packages; "" for none.

    Returns:
        The records, sorted.

    Raises:
        RuntimeError: If a file binds no such record, or two records have one name.
    """
    names = sorted(each.name for each in pkgutil.iter_modules(package.__path__) if not each.name.startswith("_"))
    files = [f"{package.__name__}.{name}" for name in names]
    found = [(file, getattr(importlib.import_module(file), binding, None)) for file in files]
    if plugins:
        found += [(each.value, each.load()) for each in sorted(entry_points(group=plugins), key=lambda each: each.name)]
    return _sorted(found, binding, kind, order)


def _sorted(found: Iterable[tuple[str, object]], binding: str, kind: type[R], order: str) -> tuple[R, ...]:
    file_of: dict[str, str] = {}
    kept: list[R] = []
    for file, record in found:
        if not isinstance(record, kind):
            raise RuntimeError(
                f"Expected {file} to bind {binding} to a {kind.__name__}, got {type(record).__name__}; "
                "a file of helpers has a name that starts with '_'"
            )
        if record.name in file_of:
            files = f"{file_of[record.name]} and {file}"
            raise RuntimeError(f"Expected one {kind.__name__} named {record.name!r}, got {files}")
        file_of[record.name] = file
        kept.append(record)
    return tuple(sorted(kept, key=lambda record: (getattr(record, order), record.name)))
