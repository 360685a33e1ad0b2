"""Optional packages of the extra `memkern[lab]`, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, package: str) -> Any:
    """Imports `module`.

    Args:
        module: Dotted name of the module.
        package: Name of the distribution that holds it, for the error message.

    Raises:
        ImportError: If the package is missing; the message names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"memkern.lab needs {package}: pip install 'memkern[lab]' ({error})") from error
