"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, package: str, *, extra: str = "audit") -> Any:
    """Imports `module`.

    Args:
        module: Dotted name of the module.
        package: Name of the distribution that holds it, for the error message.
        extra: The extra of memkern that brings it; "" if none does.

    Raises:
        ImportError: If the package is missing; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        where, fix = (f"memkern.{extra}", f"memkern[{extra}]") if extra else ("this", package)
        message = f"{where} needs {package}: pip install '{fix}' ({error})"
        raise ImportError(message, name=error.name) from error
