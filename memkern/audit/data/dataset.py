"""Data sets of other libraries as images of an audit: whatever gives items by number."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from memkern._util.text import escaped_all
from memkern.audit.data.classes import label_values
from memkern.audit.data.decode import Pixels
from memkern.audit.data.source import Source, list_digest, with_labels
from memkern.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "jpg", "png")
"""Keys under which items that are mappings hold their image, the first that is there is taken."""

LABEL_KEYS = ("label", "labels", "targets", "fine_label", "y")
"""Columns and attributes that hold the classes of all images, the first that is there is taken."""


@runtime_checkable
class Dataset(Protocol):
    """A data set whose items have numbers: of torch, of Hugging Face `datasets`, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def from_dataset(
    dataset: Dataset,
    *,
    labels: Sequence[object] | Literal["auto"] | None = "auto",
    ids: Sequence[str] | None = None,
    image_key: str | int | None = None,
    name: str = "",
    pixels: Pixels | None = None,
) -> Source:
    """Makes the images of an audit from a data set of torch or of Hugging Face `datasets`.

    Args:
        dataset: Anything with a length and items by number. An item is a picture of Pillow, a tensor or array
            `[C, H, W]` or `[H, W, C]` (uint8, or floating in [0, 1]), a mapping with one under a usual key, or a tuple
            or list that begins with one. It must give the same item every time: leave random transforms and `Normalize`
            to the audit's own views.
        labels: Class of each image; "auto": the data set's own, where it has them without reading images (`targets`,
            `labels`, a column of `ClassLabel`); `None`: none.
        ids: Names of the images; by default 0, 1, 2, …
        image_key: Key of the image in an item, or its place in a tuple; found by itself if left out.
        name: Name of the data in results; by default that of the data set's class.
        pixels: What becomes of orientations and of values of more than 8 bits; by default orientations are ignored, and
            ranges are those of unsigned types.

    Returns:
        The images, for `run_audit(options, source=…)`.

    Raises:
        DataError: If the data set has no items by number, an item no image, or two readings of an item differ.

    Example:
        >>> import torch
        >>> from memkern.audit import from_dataset
        >>> images = torch.zeros(4, 3, 8, 8)
        >>> source = from_dataset(torch.utils.data.TensorDataset(images, torch.arange(4)))
        >>> len(source), source.image(0).shape
        (4, torch.Size([3, 8, 8]))
    """
    name, how = name or type(dataset).__name__, pixels or Pixels()
    n_images, lock = len(as_dataset(dataset, name)), threading.Lock()
    names = [str(row) for row in range(n_images)] if ids is None else escaped_all([str(each) for each in ids])
    if len(names) != n_images:
        raise DataError(f"Expected one id per image of {name} ({n_images} images), got {len(names)}")

    def load(position: int) -> Tensor:
        with lock:  # a data set need not be made for threads
            item = dataset[position]
        return _pixels(_image(item, image_key), how)

    digest = list_digest([name, getattr(dataset, "_fingerprint", ""), n_images, *_first(dataset, load, name)])
    source = Source(name, tuple(names), load, digest, exif="apply" if how.upright else "ignore")
    values, classes = own_labels(dataset) if isinstance(labels, str) else (labels, None)
    return source if values is None else with_labels(source, label_values(values, name), classes)


def as_dataset(value: object, name: str) -> Dataset:
    """Requires a data set with a length and items by number.

    Args:
        value: What should be one.
        name: Its name, for the message.

    Returns:
        The data set.

    Raises:
        DataError: If it has no length or no items by number.
    """
    try:
        if isinstance(value, Dataset) and not isinstance(value, Mapping):
            len(value)
            return value
    except TypeError:  # a data set of torch without a length of its own
        pass
    raise DataError(
        f"Expected a data set with a length and items by number in {name}, got {type(value).__name__}; of one that "
        "only streams, read the items into a list first; of several splits, name one"
    )


def own_labels(dataset: object) -> tuple[Sequence[object] | None, Sequence[str] | None]:
    """Finds the labels that a data set has for all images without reading them.

    Args:
        dataset: The data set; a `Subset` of torch has those of its rows.

    Returns:
        The labels and the names of the classes, `None` for what the data set does not have.
    """
    inner, rows = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and rows is not None:
        values, classes = own_labels(inner)
        return None if values is None else [values[int(row)] for row in rows], classes
    length = len(cast(Dataset, dataset))
    for name in LABEL_KEYS:
        found = getattr(dataset, name, None)
        if found is not None and not callable(found) and hasattr(found, "__len__") and len(found) == length:
            return found, getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        return None, None
    of_classes = [key for key, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    key = next((each for each in [*of_classes, *LABEL_KEYS] if each in features), None)
    if key is None:
        return None, None
    columns = cast(Mapping[str, Sequence[object]], dataset)
    return list(columns[key]), getattr(features[key], "names", None)


def _first(dataset: Dataset, load: Callable[[int], Tensor], name: str) -> list[str]:
    """Digest of the first image; it must be the same when it is read again."""
    if not len(dataset):
        return []
    try:
        one, again = load(0), load(0)
    except Exception as error:  # the data set's own code raises what it likes
        raise DataError(f"Expected items of {name} to hold an image, got: {error}") from error
    if one.shape != again.shape or not torch.equal(one, again):
        raise DataError(
            f"Expected {name} to give the same image every time, got two different ones for item 0: make it without "
            "random transforms, the audit draws its own views"
        )
    return [hashlib.sha256(one.contiguous().cpu().numpy().tobytes()).hexdigest()]


def _image(item: object, key: str | int | None) -> object:
    """The image of an item."""
    if isinstance(item, Mapping):
        found = next((each for each in IMAGE_KEYS if each in item), None) if key is None else key
        if found is None or found not in item:
            raise DataError(f"a mapping with {', '.join(map(str, item))}: name the image with image_key")
        return item[found]
    if isinstance(item, tuple | list) and item:
        return item[key if isinstance(key, int) else 0]
    return item


def _pixels(value: object, pixels: Pixels) -> Tensor:
    """A picture, tensor or array as `[C, H, W]`."""
    if isinstance(value, Tensor) and (value.is_floating_point() or value.dtype == torch.uint8):
        return _channels_first(value.detach().cpu())
    if isinstance(value, Tensor | np.ndarray):
        return _channels_first(pixels.array(np.asarray(value)))
    if hasattr(value, "convert") and hasattr(value, "getexif"):
        return pixels.picture(cast("Image", value))
    if isinstance(value, bytes):
        return pixels.file(value)
    raise DataError(f"no image, but {type(value).__name__}")


def _channels_first(image: Tensor) -> Tensor:
    """`[H, W]`, `[H, W, C]` or `[C, H, W]` as `[C, H, W]`."""
    image = image[None] if image.ndim == 2 else image
    is_last = image.ndim == 3 and image.shape[0] not in (1, 3) and image.shape[2] in (1, 3)
    return image.permute(2, 0, 1) if is_last else image
