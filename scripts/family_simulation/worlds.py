"""Worlds: how alignments come about where it is known which images are memorized."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Membership = NDArray[np.int8]


@dataclass(frozen=True)
class World:
    """Alignments `a_i + level_k - memorized_i [k saw i] + noise_ik`, with `a` of .35 +- .08.

    Attributes:
        share: Share of the images that are memorized.
        memorized: By how much, on average (gamma of shape 3, at most 0.6 of the alignment).
        level: Standard deviation of what a training shifts all images by.
        noise: Standard deviation of one training.
        unequal: Log-normal spread of the noise between images; the mean variance stays.
        degrees: Of the t distribution of the noise; infinite: normal.
        shared: Share of the variance of the noise that images of a picture have in common within an encoder.
        proportional: Whether levels act in proportion to the image's alignment.
    """

    share: float = 0.3
    memorized: float = 0.06
    level: float = 0.06
    noise: float = 0.03
    unequal: float = 0.0
    degrees: float = math.inf
    shared: float = 0.0
    proportional: bool = False


AS_IS = World()


def random_rows(rng: np.random.Generator, images: int, encoders: int, n_in: int) -> Membership:
    """Every image in a random `n_in` of the encoders: `[N, K]`."""
    return (np.argsort(rng.random((images, encoders)), 1) < n_in).astype(np.int8)


def split_groups(candidates: int, extra: int, independents: int = 0) -> list[str]:
    """Groups of a fixed split, in this order."""
    return ["candidate"] * candidates + ["extra"] * extra + ["independent"] * independents


def simulate(
    membership: Membership,
    rng: np.random.Generator,
    world: World = AS_IS,
    where: NDArray[np.bool_] | None = None,
    pictures: NDArray[np.int64] | None = None,
) -> tuple[Floats, Floats]:
    """Alignments `[N, K]`, and what is memorized of each image `[N]`; of `where` `[N]`, by default of all."""
    images, encoders = membership.shape
    able = np.arange(images) if where is None else np.flatnonzero(where)
    base = np.maximum(rng.normal(0.35, 0.08, images), 0.15)
    memorized = np.zeros(images)
    chosen = rng.permutation(able)[: round(world.share * len(able))]
    memorized[chosen] = np.minimum(rng.gamma(3, world.memorized / 3, len(chosen)), 0.6 * base[chosen])
    spread = world.noise * np.exp(world.unequal * rng.normal(size=(images, 1)) - world.unequal**2)
    level = rng.normal(0, world.level, encoders)
    if math.isinf(world.degrees):
        noise = rng.normal(size=membership.shape)
    else:
        noise = rng.standard_t(world.degrees, membership.shape) * math.sqrt(1 - 2 / world.degrees)
    if world.shared and pictures is not None:
        common = rng.normal(size=(int(pictures.max()) + 1, encoders))[pictures]
        noise = math.sqrt(1 - world.shared) * noise + math.sqrt(world.shared) * common
    levels = level * base[:, None] / 0.35 if world.proportional else level
    return base[:, None] + levels - memorized[:, None] * (membership == 1) + spread * noise, memorized
