"""The images of an audit: where they come from, under which stable ids, with which labels; which are candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from memkern._util.text import escaped_all
from memkern.audit.data.classes import WITHOUT, class_numbers, label_values
from memkern.audit.data.decode import Pixels, bounded_size
from memkern.errors import DataError


@dataclass(frozen=True)
class Source:
    """A list of images.

    Attributes:
        name: What the user wrote.
        ids: Name of each image: its path within the folder, or its number.
        load: Position in the full list -> image `[C, H, W]`, uint8, or floating in [0, 1]; may be called from threads.
        digest: Of the list: ids, and what tells cheaply that an image changed.
        paths: File of each image; `None` if they are not files.
        labels: Class of each image, -1 of an image without a label; `None` without labels.
        classes: Name of each class; `None` without labels.
        index: Position in the full list of each image; they key its views.
        repeated: Ids that the list named again and that were dropped.
        left_out: What else was found and is no image of the list, and how many of it.
        exif: "apply" if images are turned as their EXIF orientation says, "ignore" if not, "" if they have none.
        notes: Sentences that the user should know before the work.
        change: What is made of an image `[C, H, W]` for encoders that take other channels; `None` for nothing.
    """

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Tensor]
    digest: str
    paths: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] | None = None
    index: Sequence[int] = ()
    repeated: tuple[str, ...] = field(default=())
    left_out: tuple[tuple[str, int], ...] = ()
    exif: str = ""
    notes: tuple[str, ...] = ()
    change: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.index:
            object.__setattr__(self, "index", range(len(self.ids)))

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, rows: set[int]) -> Source:
        """Leaves some rows out of the list; the others keep their positions, and so their views."""
        keep = [row for row in range(len(self)) if row not in rows]

        def pick(values: Sequence[object] | None) -> tuple[object, ...] | None:
            return None if values is None else tuple(values[row] for row in keep)

        changed = {name: pick(getattr(self, name)) for name in ("ids", "paths", "labels", "index")}
        return replace(self, **changed)  # type: ignore[arg-type]

    def image(self, row: int) -> Tensor:
        """Loads the image of a row, `[C, H, W]`, as encoders take it; see `stored`."""
        return self.taken(self.stored(row))

    def taken(self, image: Tensor) -> Tensor:
        """Makes of an image `[C, H, W]` what encoders take."""
        return image if self.change is None else self.change(image)

    def stored(self, row: int) -> Tensor:
        """Loads the image of a row, `[C, H, W]`, as it is stored.

        Args:
            row: Number of the row in this list.

        Returns:
            The image, uint8, or floating in [0, 1].

        Raises:
            DataError: If the image cannot be read; the message has its id.
        """
        try:
            return self.load(self.index[row])
        except DataError as error:
            raise DataError(f"{self.ids[row]}: {str(error).removeprefix(f'{self.ids[row]}: ')}") from error
        except Exception as error:  # decoders raise what they like on a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.ids[row]}: {reason}") from error


def list_digest(lines: Sequence[object]) -> str:
    """Computes the SHA-256 of a list, one entry a line."""
    digest = hashlib.sha256()
    for start in range(0, len(lines), 4096):  # one call for many lines: lists have millions
        some = "".join([f"{line}\n" for line in lines[start : start + 4096]])
        digest.update(some.encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Computes a digest of a file's size and its first and last MiB: enough to tell another file, in no time."""
    size, edge = path.stat().st_size, 1 << 20
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(edge))
        file.seek(max(0, size - edge))
        digest.update(file.read(edge))
    return digest.hexdigest()


def unrepeated(ids: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Finds the positions of the first entry of each id, and the ids that come again."""
    seen: set[str] = set()
    keep, again = [], []
    for position, name in enumerate(ids):
        if name in seen:
            again.append(name)
        else:
            seen.add(name)
            keep.append(position)
    return keep, tuple(again)


class ImageArray(Protocol):
    """Images that are indexed like an array: a tensor, an array, an open HDF5 data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""

    @property
    def dtype(self) -> object:
        """Kind of its elements."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int | slice, /) -> ArrayLike | Tensor: ...


def from_arrays(
    images: ImageArray | ArrayLike,
    labels: Sequence[int] | Tensor | None = None,
    ids: Sequence[str] | None = None,
    *,
    name: str = "arrays",
    pixels: Pixels | None = None,
) -> Source:
    """Makes a source of images in memory.

    Args:
        images: `[N, C, H, W]` or `[N, H, W, C]`, C = 1 or 3; uint8, uint16 (its 8 high bits are taken), or floating in
            [0, 1]. A tensor, an array, or what is indexed like one, such as an open HDF5 data set: it is read image by
            image.
        labels: `[N]` class of each image; below zero: no label.
        ids: Names; by default 0, 1, 2, …
        name: Name of the source.
        pixels: What becomes of values of more than 8 bits; by default ranges are those of unsigned types.

    Returns:
        The source.

    Raises:
        DataError: If a shape or type does not fit.
    """
    pixels = pixels or Pixels()
    array = cast(ImageArray, images if hasattr(images, "ndim") else np.asarray(images))
    shape = tuple(int(each) for each in array.shape)
    if len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}:
        raise DataError(
            f"Expected images of {name} to have shape [N, C, H, W] or [N, H, W, C] with C = 1 or 3, got {list(shape)}"
        )
    last = shape[3] in (1, 3)
    try:
        bounded_size(*(shape[1:3] if last else shape[2:]))
        if not isinstance(images, Tensor) and pixels.bounds is None:
            pixels.array(np.zeros(1, cast(np.dtype[np.generic], array.dtype)))  # wrong for one is wrong for all
    except DataError as error:
        raise DataError(f"Expected images of {name} of which all can be read, got {error}") from error
    names = [str(i) for i in range(shape[0])] if ids is None else escaped_all([str(each) for each in ids])
    if len(names) != shape[0]:
        raise DataError(f"Expected one id per image of {name}, got {len(names)} ids and {shape[0]} images")

    def load(position: int) -> Tensor:
        one = array[position]
        as_it_is = isinstance(one, Tensor) and (one.is_floating_point() or one.dtype == torch.uint8)
        image = cast(Tensor, one) if as_it_is else pixels.array(np.array(one))
        return image.permute(2, 0, 1) if last else image

    head = np.asarray(array[:64].cpu() if isinstance(array, Tensor) else array[:64])
    digest = list_digest([list(shape), array.dtype, hashlib.sha256(head.tobytes()).hexdigest(), *_stated(pixels)])
    source = Source(name, tuple(names), load, digest)
    return source if labels is None else with_labels(source, label_values(labels, name), None)


def with_labels(source: Source, values: Sequence[object], classes: Sequence[str] | None) -> Source:
    """Gives a source one label per image.

    Args:
        source: The source.
        values: Numbers, or names, which are numbered in alphabetical order; `None`, "" or a number below zero where an
            image has no label.
        classes: Names of the numbers.

    Returns:
        The source with the labels; without any if no image has one.

    Raises:
        DataError: If there is not one label per image, or a number that is no class.
    """
    if len(values) != len(source):
        raise DataError(
            f"Expected one label per image of {source.name} ({len(source)} images), got {len(values)}; {WITHOUT}"
        )
    numbers, names = class_numbers(values, classes, source.name)
    if numbers.count(-1) == len(numbers):
        note = f"No image of {source.name} has a label: those below zero or missing say that there is none."
        return replace(source, labels=None, classes=None, notes=(*source.notes, note))
    return replace(source, labels=tuple(numbers), classes=tuple(names))


def _stated(pixels: Pixels) -> tuple[object, ...]:
    """Bounds of values, for a digest; empty where none were stated."""
    return () if pixels.bounds is None else (pixels.bounds,)
