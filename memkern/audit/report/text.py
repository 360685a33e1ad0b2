"""Names and numbers as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def clean(text: object, width: int | None = None) -> str:
    r"""Makes a foreign string harmless to look at; escaping for HTML is the template's and the drawing board's work.

    Control and direction characters, with which a file name can hide its ending or turn the text after it around, are
    written out. Long strings lose their middle.

    Args:
        text: The string.
        width: Longest result, in characters.

    Returns:
        The string to show.

    Example:
        >>> clean("photo\u202egnp.exe"), clean("a" * 9 + "b" * 9, 7)
        ('photo\\u202egnp.exe', 'aa…bbbb')
    """
    shown = "".join(char if char.isprintable() else _written_out(char) for char in str(text))
    if width is None or len(shown) <= width:
        return shown
    head = (width - 1) // 3  # the end tells more than the beginning
    return f"{shown[:head]}…{shown[len(shown) - (width - 1 - head) :]}"


def _written_out(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def signed(value: float, digits: int = 3) -> str:
    """Writes a number with its sign, a true minus; a dash where it is not finite."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def score(value: float, digits: int = 3) -> str:
    """Writes a number like `signed`, without a plus."""
    return signed(value, digits).removeprefix("+")


def probability(p: float) -> str:
    """Writes a p-value as people do."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def small(value: float) -> str:
    """Writes a p or q of a table: two digits that count, a dash where it is not finite.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> small(0.01234), small(3e-7), small(0.5), small(float("nan"))
        ('0.012', '<0.0001', '0.5', '–')
    """
    if not math.isfinite(value):
        return "–"
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def flattened(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Writes nested values as a list of dotted names and texts; what is empty is left out.

    Args:
        value: Nested mappings, sequences, numbers and text.
        prefix: What stands before every name.

    Returns:
        Pairs of name and text.

    Example:
        >>> flattened({"views": {"n": 4, "size": [32, 32], "seed": None}})
        [('views.n', '4'), ('views.size', '32 32')]
    """
    if isinstance(value, Mapping):
        return [row for key, part in value.items() for row in flattened(part, f"{prefix}{key}.")]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(str(part) for part in value)
    if value is None or value == "":
        return []
    return [(prefix.rstrip("."), str(value))]
