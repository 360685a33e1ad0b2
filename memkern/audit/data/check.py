"""A look at every image before the long work: those that cannot be read, and copies."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.audit.data.source import Source
from memkern.errors import DataError

NEAR = 4
"""Images whose 64-bit perceptual hashes differ in this many bits or fewer are near copies."""

FLAT = 4.0
"""Images whose gray values, of 255, have this standard deviation or less have no perceptual hash worth comparing."""


@dataclass(frozen=True)
class ImageCheck:
    """Result of checking one image: whether it can be read, its size and its hashes.

    Attributes:
        error: Why the image cannot be read; "" if it can.
        size: Height and width, pixels.
        exact: Digest of the pixels; "" without a search for copies.
        near: Perceptual hash; `None` for flat images and without a search for copies.
        content: Digest of the pixels; "" if the image cannot be read.
    """

    error: str
    size: tuple[int, int] = (0, 0)
    exact: str = ""
    near: int | None = None
    content: str = ""


def check_image(source: Source, row: int, *, duplicates: bool) -> ImageCheck:
    """Reads one image and hashes it."""
    try:
        image = source.image(row)
    except DataError as error:
        return ImageCheck(str(error).removeprefix(f"{source.ids[row]}: "))
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        return ImageCheck(f"shape {list(image.shape)}, not [C, H, W] with C = 1 or 3")
    if image.is_floating_point() and not (float(image.min()) >= 0 and float(image.max()) <= 1):
        return ImageCheck(f"float values from {float(image.min()):g} to {float(image.max()):g}, not in [0, 1]")
    size = (int(image.shape[1]), int(image.shape[2]))
    content = pixels_digest(image).hex()
    if not duplicates:
        return ImageCheck("", size, content=content)
    return ImageCheck("", size, content, _perceptual(image), content=content)


def pixels_digest(image: Tensor) -> bytes:
    """Computes the SHA-256 of the shape and the pixels of an image, `[C, H, W]`; 32 bytes."""
    return hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()).digest()


def _perceptual(image: Tensor) -> int | None:
    hashing, pictures = require("imagehash", "imagehash"), require("PIL.Image", "pillow")
    whole = image if image.dtype == torch.uint8 else (image.float() * 255).round().to(torch.uint8)
    pixels = whole.permute(1, 2, 0).numpy()
    picture = pictures.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).convert("L")
    if np.asarray(picture).std() <= FLAT:
        return None
    return int(str(hashing.phash(picture)), 16)


def check_images(
    source: Source,
    rows: Sequence[int],
    *,
    duplicates: bool,
    workers: int = 2,
    on_image: Callable[[int], None] | None = None,
) -> list[ImageCheck]:
    """Looks at some images, with several threads.

    Args:
        source: The images.
        rows: Rows of the images to look at.
        duplicates: Whether to hash the images, for a search for copies.
        workers: How many threads.
        on_image: Called with 1 after each image.

    Returns:
        One check per row.
    """
    if duplicates:
        require("imagehash", "imagehash")
    out = []
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda row: check_image(source, row, duplicates=duplicates), rows):
            out.append(found)
            if on_image is not None:
                on_image(1)
    return out


def unreadable(source: Source, checks: Sequence[ImageCheck]) -> list[tuple[str, str]]:
    """Lists id and reason of every image that cannot be read."""
    return [(source.ids[row], found.error) for row, found in enumerate(checks) if found.error]


def copies(ids: Sequence[str], checks: Sequence[ImageCheck]) -> list[tuple[str, str, str]]:
    """Finds pairs (first, copy, "exact" or "near"): each copy once, beside the first image it is a copy of.

    Near copies are found by the pigeonhole principle: of `NEAR + 1` parts of two hashes that differ in at most `NEAR`
    bits, one is equal; so only images that share a part are compared, and no matrix over all pairs is made.
    """
    pairs: list[tuple[str, str, str]] = []
    first: dict[str, int] = {}
    taken: set[int] = set()
    for row, found in enumerate(checks):
        if found.exact and first.setdefault(found.exact, row) != row:
            pairs.append((ids[first[found.exact]], ids[row], "exact"))
            taken.add(row)
    parts = NEAR + 1
    edges = [64 * part // parts for part in range(parts + 1)]
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, found in enumerate(checks):
        if found.near is None or row in taken:
            continue
        keys = [(p, found.near >> edges[p] & (1 << edges[p + 1] - edges[p]) - 1) for p in range(parts)]
        near = [other for key in keys for other in buckets[key] if _distance(checks[other].near, found.near) <= NEAR]
        if near:
            pairs.append((ids[min(near)], ids[row], "near"))
            continue  # a copy stands for nobody: groups of copies stay cheap
        for key in keys:
            buckets[key].append(row)
    return pairs


def _distance(a: int | None, b: int) -> int:
    return 64 if a is None else bin(a ^ b).count("1")
