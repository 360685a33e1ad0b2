"""Lists as parts of sentences."""

from __future__ import annotations

from collections.abc import Iterable


def first_of(items: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """Joins the first items of a list for a message.

    Args:
        items: What to list.
        most: How many are shown.
        separator: What stands between two.

    Returns:
        "a, b, c", and "a, b and 7 more" of a longer list.
    """
    words = [str(item) for item in items]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + more
