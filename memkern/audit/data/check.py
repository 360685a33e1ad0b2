"""A look at every image before the long work: those that cannot be read, and copies."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.audit.data.source import Source
from memkern.errors import DataError

CHECKS = ("full", "sample", "none")
"""How many images are looked at before the work: all, `SAMPLE` of them, or the first alone."""

SAMPLE = 1000
"""Images of a sample, evenly spaced over the list."""

NEAR = 4
"""Images whose 64-bit perceptual hashes differ in this many bits or fewer are near copies."""

EDGE = 16
"""Height and width of the thumbnails that are compared."""

LIKE = 512
"""Images of the sample in which it is measured how alike images are that are no copies."""

DIFFERENT = 0.1
"""Largest difference (`difference`) of copies among images of which no two are alike."""

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
        thumbnail: Gray values of the image, `EDGE` by `EDGE` bytes; empty where there is no hash.
        content: Digest of the pixels; "" if the image cannot be read.
    """

    error: str
    size: tuple[int, int] = (0, 0)
    exact: str = ""
    near: int | None = None
    thumbnail: bytes = b""
    content: str = ""


def check_image(source: Source, row: int, *, duplicates: bool) -> ImageCheck:
    """Reads one image and hashes it."""
    try:
        image = source.image(row)
    except DataError as error:
        return ImageCheck(str(error).removeprefix(f"{source.ids[row]}: "))
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        return ImageCheck(f"shape {list(image.shape)}, not [C, H, W] with C = 1 or 3")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        return ImageCheck(f"values of {image.dtype}, not uint8 or floating in [0, 1]")
    if image.is_floating_point() and not (float(image.min()) >= 0 and float(image.max()) <= 1):
        if not bool(image.isfinite().all()):
            return ImageCheck("float values that are not finite")
        return ImageCheck(
            f"float values from {float(image.min()):g} to {float(image.max()):g}, not in [0, 1]: divide them, or state "
            "their range, ?range=0,255 say after the name of the data"
        )
    size = (int(image.shape[1]), int(image.shape[2]))
    content = pixels_digest(image).hex()
    if not duplicates:
        return ImageCheck("", size, content=content)
    return ImageCheck("", size, content, *_small(image), content=content)


def pixels_digest(image: Tensor) -> bytes:
    """Computes the SHA-256 of the shape and the pixels of an image, `[C, H, W]`; 32 bytes."""
    return hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()).digest()


def _small(image: Tensor) -> tuple[int | None, bytes]:
    """Perceptual hash and thumbnail of an image; of a flat one neither."""
    hashing, pictures = require("imagehash", "imagehash"), require("PIL.Image", "pillow")
    whole = image if image.dtype == torch.uint8 else (image.float() * 255).round().to(torch.uint8)
    pixels = whole.permute(1, 2, 0).numpy()
    picture = pictures.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).convert("L")
    if np.asarray(picture).std() <= FLAT:
        return None, b""
    thumbnail = picture.resize((EDGE, EDGE), pictures.Resampling.BOX)
    return int(str(hashing.phash(picture)), 16), np.asarray(thumbnail).tobytes()


def rows_to_look_at(count: int, option: str) -> Sequence[int]:
    """Chooses the rows of the images that are looked at before the work.

    Args:
        count: How many images there are.
        option: "full", "sample" or "none".

    Returns:
        All rows; `SAMPLE` evenly spaced ones; or the first.
    """
    if option == "full" or (option == "sample" and count <= SAMPLE):
        return range(count)
    return range(min(count, 1)) if option == "none" else [count * place // SAMPLE for place in range(SAMPLE)]


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


def copies(source: Source, checks: Sequence[ImageCheck]) -> list[tuple[str, str, str]]:
    """Finds pairs (first, copy, "exact" or "near"): each copy once, beside the first image it is a copy of.

    Candidates are found by the pigeonhole principle: of `NEAR + 1` parts of two hashes that differ in at most `NEAR`
    bits, one is equal; so only images that share a part are compared, and no matrix over all pairs is made. Simple
    images, such as digits, share hashes without being copies, so a pair is one of copies only if what brightness and
    contrast leave between their thumbnails is small beside that between an image of this set and the one most like it.

    Args:
        source: The images.
        checks: What was found of each, with hashes.

    Returns:
        The pairs, exact ones first.
    """
    ids = source.ids
    pairs: list[tuple[str, str, str]] = []
    first: dict[str, int] = {}
    taken: set[int] = set()
    for row, found in enumerate(checks):
        if found.exact and first.setdefault(found.exact, row) != row:
            pairs.append((ids[first[found.exact]], ids[row], "exact"))
            taken.add(row)
    different = largest_difference([each for row, each in enumerate(checks) if row not in taken])
    parts = NEAR + 1
    edges = [64 * part // parts for part in range(parts + 1)]
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, found in enumerate(checks):
        if found.near is None or row in taken:
            continue
        keys = [(p, found.near >> edges[p] & (1 << edges[p + 1] - edges[p]) - 1) for p in range(parts)]
        alike = {other for key in keys for other in buckets[key] if _distance(checks[other].near, found.near) <= NEAR}
        near = [other for other in alike if difference(checks[other].thumbnail, found.thumbnail) <= different]
        if near:
            pairs.append((ids[min(near)], ids[row], "near"))
            continue  # a copy stands for nobody: groups of copies stay cheap
        for key in keys:
            buckets[key].append(row)
    return pairs


def difference(a: bytes, b: bytes) -> float:
    """Computes the share of a thumbnail's variance that the other, brighter and of other contrast, does not explain.

    Args:
        a: Gray values, one byte each.
        b: As many gray values.

    Returns:
        1 - r² of the two, 0 of copies, 1 of images that have nothing to do with each other or are negatives.
    """
    return float(1 - _alike(_standardized([a]), _standardized([b]))[0, 0])


def largest_difference(checks: Sequence[ImageCheck]) -> float:
    """Computes the largest difference of two thumbnails that are copies, for images like these.

    Args:
        checks: Images, without those that are exact copies.

    Returns:
        A quarter of the median difference between an image and the one most like it, in a sample, among pairs whose
        hashes differ; at most `DIFFERENT`.
    """
    known = [each for each in checks if each.near is not None and each.thumbnail]
    sample = known[:: max(1, len(known) // LIKE)][:LIKE]
    if len(sample) < 2:
        return DIFFERENT
    values = _standardized([each.thumbnail for each in sample])
    hashes = np.array([each.near for each in sample], np.uint64).view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(hashes, axis=1)  # [N, 64]
    apart = np.stack([(bits != own).sum(1) for own in bits])
    alike = np.where(apart > NEAR, _alike(values, values), 0.0)  # suspects say nothing of images that are no copies
    return min(DIFFERENT, float(np.median(1 - alike.max(1))) / 4)


def _standardized(thumbnails: Sequence[bytes]) -> NDArray[np.float64]:
    """Gray values with mean 0 and length 1, `[N, EDGE * EDGE]`."""
    values = np.stack([np.frombuffer(each, np.uint8) for each in thumbnails]).astype(np.float64)
    values -= values.mean(1, keepdims=True)
    lengths: NDArray[np.float64] = np.sqrt((values * values).sum(1, keepdims=True))
    return values / np.maximum(lengths, 1e-9)


def _alike(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """r² of each pair, `[N, M]`; 0 where one is the negative of the other."""
    r: NDArray[np.float64] = np.clip(a @ b.T, 0, 1)
    return r * r


def _distance(a: int | None, b: int) -> int:
    return 64 if a is None else bin(a ^ b).count("1")
