"""Arguments of a command line: what a text is read as, with a sentence where it cannot be.

Each function is given to `argparse` as the `type` of an argument; argparse prints the sentence and exits with code 2.
"""

from __future__ import annotations

from argparse import ArgumentTypeError


def whole_number(text: str) -> int:
    """Reads a whole number.

    Args:
        text: What stands on the command line.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: If the text is none.
    """
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"Expected a whole number, got {text!r}") from None


def number(text: str) -> float:
    """Reads a number.

    Args:
        text: What stands on the command line, "0.05" say.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: If the text is none.
    """
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"Expected a number, got {text!r}") from None


def positive_number(text: str) -> int:
    """Reads a whole number of 1 or more.

    Args:
        text: What stands on the command line.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: If the text is none.
    """
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"Expected a whole number of 1 or more, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Reads a seed: a whole number from 0 to 2**31 - 1.

    Args:
        text: What stands on the command line.

    Returns:
        The seed.

    Raises:
        ArgumentTypeError: If the text is none.
    """
    if not text.isdecimal() or int(text) >= 2**31:
        raise ArgumentTypeError(f"Expected a whole number from 0 to 2**31 - 1, got {text!r}")
    return int(text)


def numbers(text: str) -> tuple[float, ...]:
    """Reads numbers separated by commas.

    Args:
        text: What stands on the command line, "0.5,0.5,0.5" say.

    Returns:
        The numbers, in order.

    Raises:
        ArgumentTypeError: If a part of the text is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"Expected numbers separated by commas, 0.5,0.5,0.5 say, got {text!r}") from None


def part_of(text: str) -> tuple[int, int]:
    """Reads "i/n", the i-th of n parts.

    Args:
        text: What stands on the command line, "3/8" say.

    Returns:
        i and n.

    Raises:
        ArgumentTypeError: If the text is not two whole numbers with a "/" between.
    """
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal()):
        raise ArgumentTypeError(f"Expected i/n, 3/8 say, got {text!r}")
    return int(first), int(last)
