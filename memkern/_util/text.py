"""Lists as parts of sentences and as tables, and names that can be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


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


_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\\\\]")
"""Control codes, marks that turn the direction of text, line ends, bytes that are no UTF-8 (surrogates), backslash."""

_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def escaped(name: str) -> str:
    r"""Writes a name so that it can be printed and stored as UTF-8, and two names never become one.

    A name without control codes, bytes that are not UTF-8 and backslashes stays as it is.

    Args:
        name: A name of a file, bytes that are not UTF-8 as surrogates, as Python gives it.

    Returns:
        The name with `\xNN`, `\uNNNN` and `\\` in place of what cannot be shown; `unescaped` undoes it.
    """
    return _UNSHOWN.sub(_written, name)


def escaped_all(names: Sequence[str]) -> list[str]:
    """Writes names as `escaped` does."""
    return [escaped(name) for name in names] if any(map(_UNSHOWN.search, names)) else list(names)


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
    if found[0] == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8: \xNN too, C1 codes are \u0080 to \u009f
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _named(byte: str | None, code: str | None) -> str:
    if code:
        return chr(int(code, 16))
    if byte:
        return chr(int(byte, 16) + (0xDC00 if int(byte, 16) >= 0x80 else 0))
    return "\\"
