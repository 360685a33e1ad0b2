"""Lists as parts of sentences and as tables."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    r"""Writes characters out that a terminal or browser obeys instead of showing them.

    Args:
        text: A text that somebody else chose: the name of a file or tensor, say.
        keep: Characters to leave as they are.

    Returns:
        The text; control characters, those that turn the direction of writing, and bytes that are no text as escapes.

    Example:
        >>> printable("a\x1b[31m\u202eb")
        'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def first_of(items: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """Joins the first items of a list for a message.

    Args:
        items: What to list.
        most: How many are shown.
        separator: What stands between two.

    Returns:
        "a, b, c", and "a, b and 7 more" of a longer list.
    """
    words = [printable(str(item)) for item in items]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + more


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
