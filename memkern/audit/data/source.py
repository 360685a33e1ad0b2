"""The images of an audit: where they come from, under which stable ids, with which labels; which are candidates."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
        labels: Class of each image; `None` without labels.
        classes: Name of each class; `None` without labels.
        index: Position in the full list of each image; they key its views.
        repeated: Ids that the list named again and that were dropped.
    """

    name: str
    ids: tuple[str, ...]
    load: Callable[[int], Tensor]
    digest: str
    paths: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] | None = None
    index: tuple[int, ...] = ()
    repeated: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.index:
            object.__setattr__(self, "index", tuple(range(len(self.ids))))

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, rows: set[int]) -> Source:
        """The list without some of its rows; the others keep their positions, and so their views."""
        keep = [row for row in range(len(self)) if row not in rows]

        def pick(values: Sequence[object] | None) -> tuple[object, ...] | None:
            return None if values is None else tuple(values[row] for row in keep)

        changed = {name: pick(getattr(self, name)) for name in ("ids", "paths", "labels", "index")}
        return replace(self, **changed)  # type: ignore[arg-type]

    def image(self, row: int) -> Tensor:
        """The image of a row, `[C, H, W]`.

        Raises:
            DataError: If it cannot be read; the message has its id.
        """
        try:
            return self.load(self.index[row])
        except DataError:
            raise
        except Exception as error:  # decoders raise what they like on a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.ids[row]}: {reason}") from error


def list_digest(lines: Sequence[object]) -> str:
    """SHA-256 of a list, one entry a line."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a large file's size and its first and last MiB: enough to tell another file, in no time."""
    size, edge = path.stat().st_size, 1 << 20
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(edge))
        file.seek(max(0, size - edge))
        digest.update(file.read(edge))
    return digest.hexdigest()


def unrepeated(ids: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Positions of the first entry of each id, and the ids that come again."""
    seen: set[str] = set()
    keep, again = [], []
    for position, name in enumerate(ids):
        if name in seen:
            again.append(name)
        else:
            seen.add(name)
            keep.append(position)
    return keep, tuple(again)


def from_arrays(
    images: Any,
    labels: Sequence[int] | Tensor | None = None,
    ids: Sequence[str] | None = None,
    *,
    name: str = "arrays",
) -> Source:
    """A source of images in memory.

    Args:
        images: `[N, C, H, W]` or `[N, H, W, C]`, C = 1 or 3; uint8, or floating in [0, 1]. A tensor, an array, or what
            is indexed like one, such as an open HDF5 data set: it is read image by image.
        labels: `[N]` class of each image.
        ids: Names; by default 0, 1, 2, …
        name: Name of the source.

    Returns:
        The source.

    Raises:
        DataError: If a shape does not fit.
    """
    array = images if hasattr(images, "ndim") else np.asarray(images)
    if array.ndim != 4 or not {array.shape[1], array.shape[3]} & {1, 3}:
        raise DataError(
            f"Expected images of {name} to have shape [N, C, H, W] or [N, H, W, C] with C = 1 or 3, "
            f"got {list(array.shape)}"
        )
    last = array.shape[3] in (1, 3)
    names = [str(i) for i in range(len(array))] if ids is None else [str(each) for each in ids]
    if len(names) != len(array):
        raise DataError(f"Expected one id per image of {name}, got {len(names)} ids and {len(array)} images")

    def load(position: int) -> Tensor:
        one = array[position]
        image = one if isinstance(one, Tensor) else torch.from_numpy(np.array(one))
        return image.permute(2, 0, 1) if last else image

    head = np.asarray(array[:64].cpu() if isinstance(array, Tensor) else array[:64])
    digest = list_digest([list(array.shape), array.dtype, hashlib.sha256(head.tobytes()).hexdigest()])
    source = Source(name, tuple(names), load, digest)
    return source if labels is None else with_labels(source, [int(label) for label in labels], None)


def with_labels(source: Source, values: Sequence[int | str], classes: Sequence[str] | None) -> Source:
    """The source with one label per image.

    Args:
        source: The source.
        values: Numbers, or names, which are numbered in alphabetical order.
        classes: Names of the numbers.

    Raises:
        DataError: If there is not one label per image, or a negative one.
    """
    if len(values) != len(source):
        raise DataError(f"Expected one label per image of {source.name} ({len(source)} images), got {len(values)}")
    if all(isinstance(value, int | np.integer) for value in values):
        numbers = [int(value) for value in values]
        if numbers and min(numbers) < 0:
            raise DataError(f"Expected labels of {source.name} to be 0 or more, got {min(numbers)}")
        names = list(classes) if classes else [str(number) for number in range(max(numbers, default=-1) + 1)]
    else:
        names = sorted({str(value) for value in values})
        place = {name: number for number, name in enumerate(names)}
        numbers = [place[str(value)] for value in values]
    if numbers and max(numbers) >= len(names):
        raise DataError(
            f"Expected labels of {source.name} below {len(names)}, the number of classes; got {max(numbers)}"
        )
    return replace(source, labels=tuple(numbers), classes=tuple(names))


def apply_labels(source: Source, option: str) -> Source:
    """Puts in the labels that `--labels` asks for.

    Args:
        source: The source with the labels it brought, if any.
        option: "auto": those it brought. "none". "folder": the name of the folder of each image. A file: `.csv` with
            the columns id and label, `.npy` or `.txt` with one label per image in data order.

    Raises:
        DataError: If labels are asked for that are not there.
    """
    if option == "auto":
        return source
    if option == "none":
        return replace(source, labels=None, classes=None)
    if option == "folder":
        folders = [name.rpartition("/")[0].rpartition("/")[2] for name in source.ids]
        if source.paths is None or len(set(folders)) < 2:
            raise DataError(f"Expected --labels folder with images in two or more folders, got {source.name}")
        return with_labels(source, folders, None)
    path = Path(option)
    if not path.is_file():
        raise DataError(f"Expected --labels to be auto, none, folder or a file, got {option!r}; there is no such file")
    if path.suffix == ".npy":
        return with_labels(source, [int(label) for label in np.load(path, allow_pickle=False)], None)
    if path.suffix != ".csv":
        return with_labels(source, _numbers(path.read_text(encoding="utf-8").split()), None)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    rows = rows[1:] if rows and [cell.strip().lower() for cell in rows[0][:2]] == ["id", "label"] else rows
    if any(len(row) < 2 for row in rows):
        raise DataError(f"Expected {path} to have the columns id and label, got the row {min(rows, key=len)}")
    given = {row[0].strip(): row[1].strip() for row in rows}
    missing = [name for name in source.ids if name not in given]
    if missing:
        raise DataError(f"Expected a label for every image in {path}; {len(missing)} lack one, first {missing[0]!r}")
    return with_labels(source, _numbers([given[name] for name in source.ids]), None)


def _numbers(values: list[str]) -> list[int | str]:
    """The values as numbers, if they all are."""
    return [int(value) for value in values] if all(value.isdigit() for value in values) else list(values)


def candidate_rows(source: Source, option: str) -> list[bool]:
    """Which images are candidates: f was trained with them, g was not.

    Args:
        source: The images.
        option: "START:STOP", a range of positions; or a `.npy` file of positions; or a text file with one id or
            position a line.

    Returns:
        One flag per image.

    Raises:
        DataError: If an id is unknown, or none or all are candidates of nothing.
    """
    start, colon, stop = option.partition(":")
    path = Path(option)
    if colon and start.isdigit() and stop.isdigit():
        wanted: list[str] = [str(number) for number in range(int(start), int(stop))]
    elif not path.is_file():
        raise DataError(f"Expected --candidates to be a file or START:STOP, got {option!r}; there is no such file")
    elif path.suffix == ".npy":
        wanted = [str(int(number)) for number in np.load(path, allow_pickle=False).ravel()]
    else:
        wanted = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    row_of_id = {name: row for row, name in enumerate(source.ids)}
    row_of_index = {str(position): row for row, position in enumerate(source.index)}
    flags = [False] * len(source)
    unknown = []
    for name in wanted:
        row = row_of_id.get(name, row_of_index.get(name))
        if row is None:
            unknown.append(name)
        else:
            flags[row] = True
    if unknown:
        raise DataError(
            f"Expected --candidates to name images of {source.name}; {len(unknown)} of {len(wanted)} are none, the "
            f"first: {unknown[0]!r}; ids look like {source.ids[0]!r}"
        )
    if not wanted:
        raise DataError(f"Expected --candidates to name at least one image, got none in {option}")
    return flags
