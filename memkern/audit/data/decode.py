"""Image files, pictures and arrays as tensors: only formats that are safe to read, each value kept in its range."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read. Pillow reads others by other programs (EPS by Ghostscript), or in parts of a file's choice."""

SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""Endings of the names of image files."""

MAX_PIXELS = 1 << 27
"""Pixels of the largest image that is read: a small file can claim any size."""

ORIENTATION = 0x0112
"""EXIF tag of the orientation; 1 is upright."""

EXIF = ("apply", "ignore")
"""What may be done with the orientation that EXIF data of a photograph state."""


@dataclass(frozen=True)
class Pixels:
    """Reading of pixels: what becomes of orientations, and of values of more than 8 bits.

    Attributes:
        upright: Whether an image is turned as its EXIF orientation says.
        bounds: Values that become 0 and 255 in images of more than 8 bits; `None`: the least and the largest value of
            an unsigned type, and other types are refused, because their range is unknown.
    """

    upright: bool = False
    bounds: tuple[float, float] | None = None

    def file(self, file: bytes | Path | str) -> Tensor:
        """Decodes an image file completely, so that a truncated one is an error.

        Args:
            file: Path of an image file, or its bytes.

        Returns:
            The image, `[3, H, W]` uint8; of a file of floating values these.

        Raises:
            DataError: If the format is none that is read, the image is too large, or the range of its values unknown.
            MissingPackageError: If Pillow is missing.
            OSError: If the file cannot be decoded; Pillow raises other kinds as well.
        """
        with opened(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            return self.picture(picture)

    def picture(self, picture: Image) -> Tensor:
        """Reads the pixels of a picture of Pillow.

        Args:
            picture: The picture; of several frames the first.

        Returns:
            The image, `[3, H, W]` uint8; of floating values these.

        Raises:
            DataError: If the picture is too large, or the range of its values unknown.
        """
        bounded_size(picture.height, picture.width)
        if self.upright and picture.getexif().get(ORIENTATION, 1) != 1:
            picture = require("PIL.ImageOps", "pillow").exif_transpose(picture)
        if picture.mode in ("F", "I") or picture.mode.startswith("I;"):
            gray = self.array(*_deep(picture))
            return gray.expand(3, *gray.shape)
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    def array(self, values: NDArray[np.generic], bits: int | None = None) -> Tensor:
        """Brings the values of an image into 8 bits, of floating ones into [0, 1].

        Args:
            values: An image of any shape.
            bits: How many bits of an unsigned type are used; by default all.

        Returns:
            uint8 values of the same shape: of unsigned integers the 8 highest bits; with stated bounds their
            share of the way from the lower bound to the upper one. Floating values stay as they are without bounds.

        Raises:
            DataError: If the range of the values is unknown, or a value is outside of the stated bounds.
        """
        kind = values.dtype
        if kind.kind not in "biuf":
            raise DataError(f"values of {kind}, not numbers of pixels: store uint8, or floating values in [0, 1]")
        if self.bounds is not None and kind != np.uint8:
            low, high = self.bounds
            numbers = values.astype(np.float64)
            if not (numbers.min() >= low and numbers.max() <= high):
                raise DataError(
                    f"values from {numbers.min():g} to {numbers.max():g}, not in the stated {low:g} to {high:g}"
                )
            return torch.from_numpy(((numbers - low) * (255 / (high - low))).round().astype(np.uint8))
        if kind == np.bool_:
            return torch.from_numpy(values.astype(np.uint8) * np.uint8(255))
        if kind.kind == "u" and kind.itemsize == 2:  # in either order of bytes
            return torch.from_numpy(np.right_shift(values.astype(np.uint16), (bits or 16) - 8).astype(np.uint8))
        if kind == np.uint8 or np.issubdtype(kind, np.floating):
            native = np.ascontiguousarray(values)
            return torch.from_numpy(native.astype(kind.newbyteorder("="), copy=native is values))
        raise DataError(
            f"values of {kind}, whose range is unknown: state it, ?range=0,4095 say after the name of the data, or "
            "store uint8"
        )


def opened(file: BinaryIO | Path | str) -> Image:
    """Opens an image file of a known format; nothing but its head is read.

    Args:
        file: Path of the file, or an open one.

    Returns:
        The picture of Pillow.

    Raises:
        DataError: If the format is none of `FORMATS`, or the head claims more pixels than `MAX_PIXELS`.
        MissingPackageError: If Pillow is missing.
        OSError: If there is no such file.
    """
    module = require("PIL.Image", "pillow")
    module.init()
    known = [each for each in FORMATS if each in module.OPEN]  # AVIF is left out of some builds of Pillow
    try:
        picture: Image = module.open(file, formats=known)
    except module.UnidentifiedImageError as error:
        raise DataError(f"not an image of a known format ({', '.join(known)})") from error
    except module.DecompressionBombError as error:
        raise DataError(f"an image that claims to be too large: {error}") from error
    bounded_size(picture.height, picture.width)
    return picture


def bounded_size(height: int, width: int) -> None:
    """Requires an image that memory can hold.

    Args:
        height: Height in pixels.
        width: Width in pixels.

    Raises:
        DataError: If the image has more pixels than `MAX_PIXELS`, or none.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError(f"an image of {width} x {height} pixels, not of 1 to {MAX_PIXELS}")


def _deep(picture: Image) -> tuple[NDArray[np.generic], int | None]:
    """Values of a gray picture of more than 8 bits, `[H, W]`, and how many bits of them are used."""
    tags = getattr(picture, "tag_v2", {})  # of TIFF
    values: NDArray[np.generic] = np.asarray(picture)
    if picture.mode == "I" and picture.format in ("PPM", "PNG"):
        return values.astype(np.uint16), None  # every depth of such a file comes as 16 bits
    if picture.mode.startswith("I;16"):
        bits = int(np.ravel(tags.get(258, 16))[0])
        values = values.astype(np.uint16)
        return (((1 << bits) - 1 - values).astype(np.uint16) if tags.get(262) == 0 else values), bits  # 0: white
    return values, None
