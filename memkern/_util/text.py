"""Lists as parts of sentences and as tables, and names that can be shown."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_BESIDE = 10_000
"""So many names of files are compared with one that is missing: a folder may hold millions."""


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


def did_you_mean(name: object, known: Iterable[str], near: float = 0.6) -> str:
    """Writes the end of a message about a name that does not exist.

    Args:
        name: The name that came.
        known: The names that there are.
        near: How alike two names are at least, from 0 to 1: difflib's ratio.

    Returns:
        "; did you mean `a` or `b`?" with the nearest names, at most three; "" if none is near.
    """
    found = difflib.get_close_matches(str(name), list(known), 3, near)
    return f"; did you mean {' or '.join(f'`{each}`' for each in found)}?" if found else ""


def near_files(path: Path) -> str:
    """Writes the end of a message about a file or folder that does not exist.

    Args:
        path: Where it was looked for.

    Returns:
        "; did you mean `a`?" with the nearest names beside the outermost part of the path that is missing; "" if none
        is near.
    """
    lacking = path
    try:
        while not lacking.parent.exists():
            lacking = lacking.parent
        beside = sorted(os.listdir(lacking.parent)[:MOST_BESIDE])
    except OSError:  # a file, or a folder that may not be read
        return ""
    return did_you_mean(lacking.name, map(printable, beside), 0.7)


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


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control codes, marks that turn the direction of text, line ends, and bytes that are not UTF-8 (as surrogates)."""

_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def printable(text: str) -> str:
    r"""Writes what a terminal would obey, and what is not UTF-8, as `\xNN` and `\uNNNN`; the rest stays.

    Args:
        text: Any text, such as a name from a foreign file.

    Returns:
        Text of one line that can be encoded and printed.

    Example:
        >>> print(printable("red\x1b[31m"))
        red\x1b[31m
    """
    return _UNPRINTABLE.sub(_written, text)


def escaped(name: str) -> str:
    r"""Writes a name so that it can be printed and stored as UTF-8, and two names never become one.

    A name without control codes, bytes that are not UTF-8 and backslashes stays as it is.

    Args:
        name: A name of a file, bytes that are not UTF-8 as surrogates, as Python gives it.

    Returns:
        The name with `\xNN`, `\uNNNN` and `\\` in place of what cannot be shown; `unescaped` undoes it.
    """
    return printable(name.replace("\\", "\\\\"))


def escaped_all(names: Sequence[str]) -> list[str]:
    """Writes names as `escaped` does."""
    needed = any("\\" in name or _UNPRINTABLE.search(name) for name in names)
    return [escaped(name) for name in names] if needed else list(names)


def unescaped(name: str) -> str:
    """Undoes `escaped`.

    Args:
        name: What `escaped` returned.

    Returns:
        The name.
    """
    return _ESCAPE.sub(lambda found: _named(found[1], found[2]), name)


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8: \xNN too, C1 codes are \u0080 to \u009f
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _named(byte: str | None, code: str | None) -> str:
    if code:
        return chr(int(code, 16))
    if byte:
        return chr(int(byte, 16) + (0xDC00 if int(byte, 16) >= 0x80 else 0))
    return "\\"
