"""Optional packages of `memkern[lab]`."""

from __future__ import annotations

from typing import Any

from memkern._util.optional_imports import need as _need


def need(module: str, package: str, extra: str = "lab") -> Any:
    """Imports `module` of `package`; if it is missing, the ImportError names the extra to install."""
    return _need(module, package, extra=extra)
