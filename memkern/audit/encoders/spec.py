"""Names with arguments, `prefix:name?key=value&…`, as encoders, weights and images are written."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memkern._util.remote import fetch, is_remote
from memkern.errors import ArgumentValueError


@dataclass(frozen=True)
class Spec:
    """A name with arguments, `prefix:name?key=value&key=value`.

    Attributes:
        text: What the user wrote.
        prefix: What stands before the first colon, "" without one.
        name: What stands after it.
        arguments: Keys and values; numbers, True, False, None and tuples are read as Python does, others are text.
    """

    text: str
    prefix: str
    name: str
    arguments: Mapping[str, object]

    @property
    def path(self) -> Path:
        """Path that the name is read as; what lies at a remote address is copied first."""
        return fetch(self.name) if is_remote(self.name) else Path(self.name)


def parse(text: str, prefixes: tuple[str, ...] = ()) -> Spec:
    """Reads `prefix:name?key=value&…`.

    Args:
        text: What the user wrote.
        prefixes: Known prefixes; text with another one before its first colon is a name as a whole.

    Returns:
        The parts of the name.

    Raises:
        ArgumentValueError: If an argument has no "=".
    """
    # The "?" of a web address is its own.
    name, mark, rest = (text, "", "") if text.lower().startswith(("http://", "https://")) else text.partition("?")
    prefix, colon, after = name.partition(":")
    if not colon or prefix not in prefixes:
        prefix, after = "", name
    arguments: dict[str, object] = {}
    for each in rest.split("&") if mark else []:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise ArgumentValueError(f"Expected `key=value` after the '?' of {text!r}, got {each!r}")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return Spec(text, prefix, after, arguments)
