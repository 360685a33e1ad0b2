"""Readers of images: the record that each file of `memkern.audit.data.readers` binds, and what these files share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memkern.audit.data.decode import EXIF, Pixels
from memkern.audit.data.source import Source, list_digest
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

IMAGE_KEYS = ("images", "image", "x", "data", "img", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "targets", "fine_label", "arr_1")


@dataclass(frozen=True)
class Reader:
    """A kind of data that `memkern audit --data` reads.

    Attributes:
        name: Name of the kind.
        summary: What is read, for the table in docs/audit.md.
        example: How data of the kind are written.
        package: The package that has to be installed; "" if none has to.
        open: From what the user wrote to the images.
        takes: Whether a path that exists is of the kind; no path is of two kinds.
        prefix: What stands before a colon, where the kind is told by that and not by a path; "" otherwise.
        exif: What is done with EXIF orientations where the user does not say, "apply" or "ignore": what the library
            does that trains on such data; "" where images have none.
        many: Whether several files are read as one, named by a pattern (`*`, `?`, `[…]`, `{000..009}`).
    """

    name: str
    summary: str
    example: str
    package: str
    open: Callable[[Spec], Source]
    takes: Callable[[Path], bool] = lambda path: False
    prefix: str = ""
    exif: str = ""
    many: bool = False


def has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    """Makes `Reader.takes` of a reader of files that are told by the end of their name."""
    return lambda path: path.is_file() and path.suffix in suffixes


def pixels_of(spec: Spec) -> Pixels:
    """Reads what `?exif=…&range=LOW,HIGH` after a name says of pixels.

    Args:
        spec: What the user wrote.

    Returns:
        How the pixels are read.

    Raises:
        DataError: If an argument has another form.
    """
    exif, bounds = spec.arguments.get("exif", "ignore"), spec.arguments.get("range")
    if exif not in EXIF:
        raise DataError(f"Expected `exif` of {spec.text} to be one of {', '.join(EXIF)}, got {exif!r}")
    if bounds is None:
        return Pixels(exif == "apply")
    numbers = bounds if isinstance(bounds, tuple) else (0, bounds)
    if len(numbers) != 2 or not all(isinstance(each, int | float) for each in numbers) or not numbers[0] < numbers[1]:
        raise DataError(f"Expected `range` of {spec.text} to be LOW,HIGH or HIGH, 0,4095 say, got {bounds!r}")
    return Pixels(exif == "apply", (float(numbers[0]), float(numbers[1])))


def with_pixels(source: Source, spec: Spec, *, exif: bool = True) -> Source:
    """Puts what decides the pixels besides the data into a source.

    Args:
        source: The source.
        spec: What the user wrote.
        exif: Whether its images may have EXIF orientations.

    Returns:
        The source, its digest that of the data as they are read.
    """
    pixels = pixels_of(spec)
    stated = [*(["upright"] if pixels.upright else []), *([] if pixels.bounds is None else [pixels.bounds])]
    digest = list_digest([source.digest, *stated]) if stated else source.digest
    return replace(source, exif=("apply" if pixels.upright else "ignore") if exif else "", digest=digest)


def wants_labels(spec: Spec) -> bool:
    """Returns whether the labels of the data are asked for; `?labels=none` after the name says no."""
    return spec.arguments.get("labels", "") not in ("none", None)


def image_key(keys: Sequence[str], spec: Spec, first: str | None = None) -> str:
    """Chooses the key that holds the images of a file.

    Args:
        keys: All keys of the file.
        spec: What the user wrote, with `?images=KEY` or without.
        first: The key to take where the user names none; `None` where the file does not say.

    Returns:
        The key that was asked for, else `first`, else the first usual one, else the only one.

    Raises:
        DataError: If there is no such key, or none that is usual among several.
    """
    found = _named_or_usual(keys, spec, "images", IMAGE_KEYS, first)
    if found is not None:
        return found
    if len(keys) == 1:
        return keys[0]
    raise DataError(
        f"Expected {spec.path} to have images under one of {', '.join(IMAGE_KEYS)}, got {', '.join(keys)}; "
        f"name it: {spec.path}?images=KEY"
    )


def label_key(keys: Sequence[str], spec: Spec, first: str | None = None) -> str | None:
    """Chooses the key that holds the labels of a file.

    Args:
        keys: All keys of the file.
        spec: What the user wrote, with `?labels=KEY` or without.
        first: The key to take where the user names none; `None` where the file does not say.

    Returns:
        The key that was asked for, else `first`, else the first usual one; `None` without labels.

    Raises:
        DataError: If there is no such key.
    """
    return _named_or_usual(keys, spec, "labels", LABEL_KEYS, first)


def _named_or_usual(
    keys: Sequence[str], spec: Spec, what: str, usual: Sequence[str], first: str | None = None
) -> str | None:
    if what == "labels" and not wants_labels(spec):
        return None
    wanted = spec.arguments.get(what, first)
    if wanted is None:
        return next((key for key in usual if key in keys), None)
    if wanted not in keys:
        raise DataError(f"Expected {spec.path} to have {what} under {wanted!r}; it has {', '.join(keys)}")
    return str(wanted)
