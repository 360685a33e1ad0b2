"""Optional packages of the extra `memkern[lab]`, imported where they are used."""

from __future__ import annotations

from typing import Any

from memkern.audit.extras import need as _need


def need(module: str, package: str) -> Any:
    """Imports `module` of `package`; if it is missing, the ImportError names the extra to install."""
    return _need(module, package, extra="lab")
