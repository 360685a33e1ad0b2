"""Lists as parts of sentences and as tables."""

from __future__ import annotations

import difflib
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


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Writes the end of a message about a name that does not exist.

    Args:
        name: The name that came.
        known: The names that there are.

    Returns:
        "; did you mean `a` or `b`?" with the nearest names, at most three; "" if none is near.
    """
    near = difflib.get_close_matches(str(name), list(known), 3)
    return f"; did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else ""


def markdown_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Writes a markdown table for the docs.

    Args:
        heads: Heads of the columns.
        rows: Cells of each row; "|" within one is escaped.

    Returns:
        The lines of the table, each ended by a line break.
    """
    lines = [list(heads)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
