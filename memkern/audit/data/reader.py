"""Readers of images: the record that each file of `memkern.audit.data.readers` binds, and what these files share."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.audit.data.source import Source
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
    """

    name: str
    summary: str
    example: str
    package: str
    open: Callable[[Spec], Source]
    takes: Callable[[Path], bool] = lambda path: False
    prefix: str = ""


def has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    """Makes `Reader.takes` of a reader of files that are told by the end of their name."""
    return lambda path: path.is_file() and path.suffix in suffixes


def decoded(file: bytes | Path | str) -> Tensor:
    """Decodes an image file completely, so that a truncated one is an error.

    Args:
        file: Path of an image file, or its bytes.

    Returns:
        The image, `[3, H, W]` uint8.

    Raises:
        MissingPackageError: If Pillow is missing.
        OSError: If the file cannot be decoded; Pillow raises other kinds as well.
    """
    image_module = require("PIL.Image", "pillow")
    with image_module.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
        if picture.mode.startswith("I;16"):  # Pillow would clip 16 bits instead of scaling them
            gray = torch.from_numpy((np.asarray(picture) >> 8).astype(np.uint8))
            return gray.expand(3, *gray.shape)
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def image_key(keys: Sequence[str], spec: Spec) -> str:
    """Chooses the key that holds the images of a file.

    Args:
        keys: All keys of the file.
        spec: What the user wrote, with `?images=KEY` or without.

    Returns:
        The key that was asked for, else the first usual one, else the only one.

    Raises:
        DataError: If there is no such key, or none that is usual among several.
    """
    found = _named_or_usual(keys, spec, "images", IMAGE_KEYS)
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
    wanted = spec.arguments.get(what, first)
    if wanted is None:
        return next((key for key in usual if key in keys), None)
    if wanted not in keys:
        raise DataError(f"Expected {spec.path} to have {what} under {wanted!r}; it has {', '.join(keys)}")
    return str(wanted)
