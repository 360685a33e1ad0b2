"""The methods by name: the files of `memkern.lab.methods`."""

from __future__ import annotations

import importlib
import pkgutil

from memkern._util.text import did_you_mean
from memkern.errors import ArgumentValueError
from memkern.lab import methods
from memkern.lab.method import Method


def method_names() -> list[str]:
    """Returns the names of all methods, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules(methods.__path__))


def load_method(name: str) -> type[Method]:
    """Returns the class of a method.

    Args:
        name: Name of the method.

    Returns:
        The class.

    Raises:
        ArgumentValueError: If there is no such method; the message lists them.
    """
    if name not in method_names():
        near = did_you_mean(name, method_names())
        raise ArgumentValueError(f"Expected `method` to be one of {', '.join(method_names())}, got {name!r}{near}")
    method: type[Method] = importlib.import_module(f"{methods.__name__}.{name}").METHOD
    return method
