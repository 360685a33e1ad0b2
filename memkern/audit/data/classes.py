"""Labels of images as numbers of classes: what a label may be, and what says that an image has none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memkern._util.text import escaped
from memkern.errors import DataError

MOST_CLASSES = 1 << 20
"""Numbers of classes end below this: each has a row in the state of ClassMem."""

NO_LABEL = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
"""Words in a column of numbers that say that an image has no label, in small letters."""

_NUMBER = re.compile(r"-?(\d{1,400})(?:\.(\d{1,400}))?")
"""A number as tables hold it; programs write whole ones as 3.0 where another row has none."""

WITHOUT = "--labels none goes on without labels"
"""What every error of labels offers."""


def label_values(values: object, name: str) -> list[object]:
    """Reads an array of labels, one per image.

    Args:
        values: `[N]` or `[N, 1]`: whole numbers, floating ones that are whole or NaN (no label), text, or its bytes.
        name: Where they come from, for the message.

    Returns:
        A number, a name, or `None` (no label) for each image.

    Raises:
        DataError: If there are several numbers for each image, or numbers that are not whole.
    """
    array: NDArray[np.generic] = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"Expected one label per image in {name}, got shape {list(array.shape)}: one-hot labels become numbers "
            f"with argmax(1), of several labels choose one; {WITHOUT}"
        )
    found: list[object] = array.tolist()
    return found


def class_numbers(values: Sequence[object], classes: Sequence[str] | None, name: str) -> tuple[list[int], list[str]]:
    """Numbers the classes of images.

    Args:
        values: One label per image: a number, text, or bytes of text; `None`, NaN, "" or a number below zero: no label.
        classes: Names of the numbers; `None` where they have none.
        name: Name of the data, for the message.

    Returns:
        The number of each image's class, -1 without one; and the names of the classes.

    Raises:
        DataError: If a label is of another kind, or its number not below that of the classes.
    """
    plain = [_plain(value, name) for value in values]
    if all(value is None or isinstance(value, int) for value in plain):
        numbers = [value if isinstance(value, int) and value >= 0 else -1 for value in plain]
        most = max(numbers, default=-1)
        if most >= (len(classes) if classes else MOST_CLASSES):
            limit = f"{len(classes)}, the number of classes" if classes else f"{MOST_CLASSES}, the most classes"
            raise DataError(f"Expected labels of {name} below {limit}; got {most}; {WITHOUT}")
        return numbers, [escaped(str(each)) for each in classes] if classes else [str(each) for each in range(most + 1)]
    named = [None if value is None or value == "" else escaped(str(value)) for value in plain]
    names = sorted({each for each in named if each is not None})
    place: dict[str | None, int] = {each: number for number, each in enumerate(names)}
    return [place.get(each, -1) for each in named], names


def numbers_or_names(values: Sequence[str]) -> list[int | None] | list[str]:
    """Reads the labels of a text file as whole numbers if they all are numbers, 3 or 3.0, and as names otherwise.

    Args:
        values: The labels; among numbers, "" and "nan" and the like are no label.

    Returns:
        Numbers, `None` for no label; or the names.

    Raises:
        DataError: If all are numbers, and one is not whole.
    """
    given = [value for value in values if value.lower() not in NO_LABEL]
    if not given or not all(map(_NUMBER.fullmatch, given)):
        return list(values)
    broken = next((value for value in given if value.partition(".")[2].strip("0")), None)
    if broken is not None:
        raise DataError(f"Expected whole numbers or names as labels, got {broken} among numbers; {WITHOUT}")
    return [None if value.lower() in NO_LABEL else int(value.partition(".")[0]) for value in values]


def _plain(value: object, name: str) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        if float(value).is_integer():
            return int(value)
        raise DataError(f"Expected whole numbers or names as labels of {name}, got {value}; {WITHOUT}")
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise DataError(
        f"Expected one number or name as label of each image of {name}, got {type(value).__name__} {str(value)[:60]}; "
        f"{WITHOUT}"
    )
