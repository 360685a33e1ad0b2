"""Real images that ship inside Python packages: nothing is downloaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.errors import ArgumentTypeError, ArgumentValueError

PATCH = 32
"""Edge length of a patch, in pixels."""

MIN_CONTRAST = 8.0
"""Patches are flat, and left out, if the standard deviation within a channel, of 255, averages this or less."""

SKIMAGE_PICTURES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "hubble_deep_field",
    "immunohistochemistry",
    "colorwheel",
)
SKLEARN_PICTURES = ("china", "flower")


@dataclass(frozen=True)
class ImageSet:
    """A set of labeled images.

    Attributes:
        name: Name of the set.
        images: RGB images, uint8, shape `[N, 3, H, W]`.
        labels: Class of each image, int64, shape `[N]`.
        label_names: Name of each class.
        sha256: Digest of the image bytes in `[N, 3, H, W]` order, followed by the labels.
        n_train: How many of the first images are the official training set; `None`: there is none.
    """

    name: str
    images: Tensor
    labels: Tensor
    label_names: tuple[str, ...]
    sha256: str
    n_train: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def gray(self) -> bool:
        """Tells whether no image has a color; steps of a view on saturation and hue do nothing then."""
        return all(bool((self.images[:, 0] == self.images[:, channel]).all()) for channel in (1, 2))

    def floats(self, ids: Tensor) -> Tensor:
        """Returns the images `ids`, integer, shape `[M]`, as float32 in [0, 1], shape `[M, 3, H, W]`."""
        return self.images[ids].float() / 255


def image_set(
    name: str, images: Tensor, labels: Tensor, label_names: tuple[str, ...], *, n_train: int | None = None
) -> ImageSet:
    """Builds an `ImageSet` and computes its digest.

    Args:
        name: Name of the set.
        images: RGB images, uint8, `[N, 3, H, W]`.
        labels: Class of each image, int64, `[N]`.
        label_names: Name of each class.
        n_train: How many of the first images are the official training set; `None`: there is none.

    Returns:
        The set.

    Raises:
        ArgumentTypeError: If `images` are not uint8.
        ArgumentValueError: If `images` are not `[N, 3, H, W]` or `labels` are not `[N]`.
    """
    if images.dtype != torch.uint8:
        raise ArgumentTypeError(f"Expected `images` to be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ArgumentValueError(f"Expected `images` to have shape [N, 3, H, W], got {list(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ArgumentValueError(f"Expected `labels` to have shape [{len(images)}], got {list(labels.shape)}")
    digest = hashlib.sha256(images.contiguous().numpy().tobytes())
    digest.update(labels.long().numpy().tobytes())
    return ImageSet(name, images.contiguous(), labels.long(), label_names, digest.hexdigest(), n_train)


def patches() -> ImageSet:
    """Cuts ten color pictures of scikit-image and scikit-learn into 32x32 patches that do not overlap.

    The label of a patch is the picture it was cut from. Flat patches are left out (see `MIN_CONTRAST`). With
    scikit-image 0.26 and scikit-learn 1.9 these are 2,413 patches.

    Returns:
        The set, named `patches`.

    Raises:
        ImportError: If scikit-image or scikit-learn is missing; the message names the extra to install.
    """
    pictures: dict[str, NDArray[np.uint8]] = {}
    skimage = require("skimage.data", "scikit-image", extra="lab")
    for name in SKIMAGE_PICTURES:
        pictures[name] = getattr(skimage, name)()
    sklearn = require("sklearn.datasets", "scikit-learn", extra="lab")
    for name in SKLEARN_PICTURES:
        pictures[name] = sklearn.load_sample_image(f"{name}.jpg")
    parts = [cut(picture) for picture in pictures.values()]
    images = torch.from_numpy(np.concatenate(parts))
    labels = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
    return image_set("patches", images, labels, tuple(pictures))


def cut(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cuts a picture into patches that do not overlap, row by row from the top left; flat ones are left out.

    Args:
        picture: `[H, W, 3]` or more channels, of which the first three are taken.

    Returns:
        `[N, 3, 32, 32]`.
    """
    rows, cols = picture.shape[0] // PATCH, picture.shape[1] // PATCH
    grid = picture[: rows * PATCH, : cols * PATCH, :3].reshape(rows, PATCH, cols, PATCH, 3)
    out = np.ascontiguousarray(grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3, PATCH, PATCH))
    contrast = out.reshape(len(out), 3, -1).std(axis=2).mean(axis=1)
    textured: NDArray[np.uint8] = out[contrast > MIN_CONTRAST]
    return textured
