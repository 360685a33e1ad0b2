"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from memkern.errors import MissingPackageError


def require(module: str, package: str, *, extra: str = "audit") -> ModuleType:
    """Imports a module of an optional package.

    Args:
        module: Dotted name of the module.
        package: Name of the distribution that holds it, for the error message.
        extra: The extra of memkern that brings it; "" if none does.

    Returns:
        The module.

    Raises:
        MissingPackageError: If the package is missing; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        where, fix = (f"memkern.{extra}", f"memkern[{extra}]") if extra else ("this", package)
        message = f"{where} needs {package}: pip install '{fix}' ({error})"
        raise MissingPackageError(message, name=error.name) from error
