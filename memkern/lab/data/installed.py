"""Image sets that packages of an operating system install: nothing is downloaded."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError, MissingFileError
from memkern.lab.data.packaged import ImageSet, cut, image_set

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist has its files."""

BACKGROUNDS = Path("/usr/share/backgrounds")
"""Where Debian's packages of wallpapers have their pictures."""

FASHION_CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
REDUCED = 1024
"""Longest edge of a picture before it is cut, in pixels."""


def fashion_mnist(root: Path | None = None) -> ImageSet:
    """Reads Fashion-MNIST (arXiv:1708.07747): 60,000 training and 10,000 test images, 28x28 gray, with a border of 2.

    Args:
        root: The folder that torchvision was given, which holds ``FashionMNIST/raw``, or one with the four files;
            None: that of Debian's package dataset-fashion-mnist.

    Returns:
        The set; the test images follow the training images.

    Raises:
        MissingFileError: If the files are not there; the message says how to get them.
        ArgumentValueError: If a file is not what its name says.
    """
    folder = FASHION_MNIST if root is None else root
    if root is not None and (root / "FashionMNIST" / "raw").is_dir():
        folder = root / "FashionMNIST" / "raw"
    parts = [
        (_idx(folder / f"{part}-images-idx3-ubyte", 3), _idx(folder / f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    ]
    gray = torch.cat([images for images, _ in parts])
    images = pad(gray, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1)
    labels = torch.cat([labels for _, labels in parts])
    return image_set("fashion-mnist", images.contiguous(), labels, FASHION_CLASSES, n_train=len(parts[0][0]))


def _idx(path: Path, dims: int) -> Tensor:
    """Reads a file of the IDX format, packed by gzip or not: unsigned bytes in so many dimensions."""
    packed = path.with_name(f"{path.name}.gz")
    if path.is_file():
        content = path.read_bytes()
    elif packed.is_file():
        content = gzip.decompress(packed.read_bytes())
    else:
        raise MissingFileError(
            f"Expected {path.name} or {packed.name} in {path.parent}; `apt-get install dataset-fashion-mnist` puts it "
            f"into {FASHION_MNIST}, and torchvision.datasets.FashionMNIST(ROOT, download=True) below the ROOT to name"
        )
    header = 4 + 4 * dims
    sizes = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    if content[:4] != bytes((0, 0, 8, dims)) or len(content) != header + int(np.prod(sizes)):
        raise ArgumentValueError(f"Expected {path} to hold bytes in {dims} dimensions, in the IDX format; it does not")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(sizes).copy())


def photos(root: Path | None = None) -> ImageSet:
    """Cuts pictures into 32x32 patches that do not overlap, after reducing them to 1,024 px at most.

    The label of a patch is the picture that it was cut from: splits go by picture (``by_picture``). Flat patches are
    left out.

    Args:
        root: A folder of pictures, at any depth; None: that of the wallpapers that Debian's packages install.

    Returns:
        The set.

    Raises:
        MissingFileError: If there is no picture; the message says how to get some.
    """
    folder = BACKGROUNDS if root is None else root
    found: dict[str, NDArray[np.uint8]] = dict(_pictures(folder))
    if not found:
        raise MissingFileError(
            f"Expected pictures ({', '.join(PICTURE_SUFFIXES)}) of {2 * 32} px or more in {folder}; `apt-get install "
            f"mate-backgrounds ukui-wallpapers lomiri-wallpapers-20.04` puts some into {BACKGROUNDS}"
        )
    counts = torch.tensor([len(patches) for patches in found.values()])
    images = torch.from_numpy(np.concatenate(list(found.values())))
    return image_set("photos", images, torch.repeat_interleave(counts), tuple(found))


def _pictures(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and patches of each picture, each file once, in the order of their names."""
    image = require("PIL.Image", "pillow", extra="lab")
    seen = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file() or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        with image.open(path) as opened:
            opened.draft("RGB", (REDUCED, REDUCED))  # a JPEG is decoded at a smaller size
            picture = opened.convert("RGB")
            picture.thumbnail((REDUCED, REDUCED))
        patches = cut(np.asarray(picture))
        if len(patches):
            yield path.relative_to(folder).as_posix(), patches
