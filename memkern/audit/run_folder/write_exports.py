"""Writes a finished audit in the formats of other tools."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from memkern._util.optional_imports import require
from memkern._util.registry import records
from memkern.audit.run_folder import exports as package
from memkern.audit.run_folder.export import Export
from memkern.audit.run_folder.reader import Run
from memkern.checks import values as checks


def exports() -> tuple[Export, ...]:
    """Lists all exports, in the order of their options."""
    return records(package, "EXPORT", Export, order="order")


def export_summaries() -> dict[str, str]:
    """Lists what each export's option does: name -> summary."""
    return {export.name: export.summary for export in exports()}


def chosen(names: Collection[str]) -> list[Export]:
    """Finds exports by their names.

    Args:
        names: Names of exports.

    Returns:
        The exports, in the order of their options.

    Raises:
        ValueError: If there is no export of that name; the message lists those there are.
    """
    known = {export.name: export for export in exports()}
    for name in names:
        checks.one_of(name, "exports", list(known))
    return [known[name] for name in known if name in names]


def require_packages(names: Collection[str]) -> None:
    """Checks that all packages are there that exports need.

    Args:
        names: Names of exports.

    Raises:
        ValueError: If there is no export of that name.
        MissingPackageError: If a package is missing; the message says how to install it.
    """
    for export in chosen(names):
        for module, distribution, extra in export.packages:
            require(module, distribution, extra=extra)


def write_exports(run: Run, names: Collection[str]) -> list[Path]:
    """Writes exports into the folder of an audit.

    Args:
        run: The finished audit.
        names: Names of the exports.

    Returns:
        The files.

    Raises:
        ValueError: If there is no export of that name.
        MissingPackageError: If a package is missing.
        OSError: If a file cannot be written.
    """
    return [path for export in chosen(names) for path in export.write(run)]
