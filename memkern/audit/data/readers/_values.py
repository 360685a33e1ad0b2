"""Images within tables: bytes, paths, both, or nested lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from memkern._util.text import printable
from memkern.audit.data.decode import Pixels
from memkern.audit.data.reader import pixels_of
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError


@dataclass(frozen=True)
class ImageValues:
    """Reading of the images of a table.

    Attributes:
        pixels: How pixels are read.
        root: The folder within which the table may name files.
        beside: The folder from which relative paths start.
    """

    pixels: Pixels
    root: Path
    beside: Path

    @classmethod
    def of(cls, spec: Spec, beside: Path) -> ImageValues:
        """Reads images as `?root=DIR` and the arguments for pixels say; by default paths stay in `beside`."""
        return cls(pixels_of(spec), Path(str(spec.arguments.get("root", beside))), beside)

    def image(self, value: object) -> Tensor:
        """Reads one image.

        Args:
            value: Bytes of an image file, its path, a mapping with `bytes` or `path`, or a nested list of numbers.

        Returns:
            The image, `[C, H, W]`.

        Raises:
            DataError: If there is no image, or its path leaves the folder of the data.
        """
        if isinstance(value, Mapping):
            value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if isinstance(value, bytes):
            return self.pixels.file(value)
        if isinstance(value, str):
            return self.pixels.file(self._within(value))
        if isinstance(value, list):
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise DataError(f"a list of rows of unequal lengths ({error})") from error
            if array.ndim not in (2, 3):
                raise DataError(f"a list of shape {list(array.shape)}, not [H, W], [H, W, C] or [C, H, W]")
            whole = array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255
            pixels = self.pixels.array(array.astype(np.uint8) if whole and self.pixels.bounds is None else array)
            pixels = pixels[None] if pixels.ndim == 2 else pixels
            return pixels.permute(2, 0, 1) if pixels.shape[-1] in (1, 3) else pixels
        raise DataError("no image: the value is null" if value is None else f"no image, but {type(value).__name__}")

    def _within(self, name: str) -> Path:
        """The file of a path that a table names: a foreign table must not choose which files of a disk are read."""
        root = self.root.resolve()
        for base in (self.beside, self.root):
            file = (base / name).resolve()
            if not file.is_relative_to(root):
                raise DataError(
                    f"the path {printable(name)} leaves the folder of the data; state the folder of the images, "
                    "?root=DIR after the name of the data, if the file is to be trusted"
                )
            if file.is_file():
                return file
        raise DataError(f"the path {printable(name)} is no file in {root}")


@dataclass(frozen=True)
class Features:
    """Columns of a table of images, as Hugging Face `datasets` describes them.

    Attributes:
        image: The column of images; `None` if the table does not say.
        label: The column of classes; `None` if the table does not say.
        classes: Column of classes -> their names.
    """

    image: str | None
    label: str | None
    classes: Mapping[str, tuple[str, ...]]


def features_of(metadata: Mapping[bytes, bytes] | None) -> Features:
    """Reads the features that `datasets` writes into the metadata of a parquet file.

    Args:
        metadata: The file's metadata.

    Returns:
        The columns of images and of classes; nothing where the metadata say nothing.
    """
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {name: kind for name, kind in found.items() if isinstance(kind, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        kinds = {}
    images = [name for name, kind in kinds.items() if kind.get("_type") == "Image"]
    classes = {
        name: tuple(str(each) for each in kind["names"])
        for name, kind in kinds.items()
        if kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
    }
    return Features(next(iter(images), None), next(iter(classes), None), classes)
