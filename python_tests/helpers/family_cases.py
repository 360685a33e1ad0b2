"""Simulated alignments of families of encoders, and dense float64 regressions to compare the closed forms with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def random_rows(rng: np.random.Generator, images: int, encoders: int, n_in: int) -> NDArray[np.int8]:
    """Every image in a random `n_in` of the encoders."""
    return (np.argsort(rng.random((images, encoders)), 1) < n_in).astype(np.int8)


def split_groups(candidates: int, extra: int, independents: int = 0) -> list[str]:
    return ["candidate"] * candidates + ["extra"] * extra + ["independent"] * independents


@dataclass(frozen=True)
class World:
    """How simulated alignments come about: a share of the images is memorized."""

    share: float = 0.3
    level: float = 0.06
    noise: float = 0.03
    unequal: float = 0.0  # log-normal spread of the noise of images


AS_IS = World()


def simulate(membership, rng, world=AS_IS, where=None) -> tuple[Floats, Floats]:
    """Alignments `[N, K]` and how much each image is memorized `[N]`."""
    images, encoders = membership.shape
    able = np.arange(images) if where is None else np.flatnonzero(where)
    base = np.maximum(rng.normal(0.35, 0.08, images), 0.15)
    memorized = np.zeros(images)
    chosen = rng.permutation(able)[: round(world.share * len(able))]
    memorized[chosen] = np.minimum(rng.gamma(3, 0.02, len(chosen)), 0.6 * base[chosen])
    spread = world.noise * np.exp(world.unequal * rng.normal(size=(images, 1)) - world.unequal**2)
    level = rng.normal(0, world.level, encoders)
    noise = spread * rng.normal(size=membership.shape)
    return base[:, None] + level - memorized[:, None] * (membership == 1) + noise, memorized


def regression(alignment, membership, clusters=None) -> tuple[Floats, Floats]:
    """Levels `[K]` and their cluster-robust covariance, by dense least squares with a dummy for each cell."""
    images, encoders = membership.shape
    image, encoder = np.nonzero(membership >= 0)
    cell = 2 * image + membership[image, encoder]
    y = alignment[image, encoder]
    x = np.eye(encoders)[encoder]
    dummies = np.eye(2 * images)[cell][:, np.unique(cell)]
    everything = np.hstack([dummies, x])
    solution = np.linalg.lstsq(everything, y, rcond=1e-10)[0]
    levels = solution[-encoders:] - solution[-encoders:].mean()
    residuals = y - everything @ solution
    x = x - dummies @ np.linalg.lstsq(dummies, x, rcond=None)[0]
    bread = np.linalg.pinv(x.T @ x, rcond=1e-9)
    named = image if clusters is None else clusters[image]
    scores = np.array([(x * residuals[:, None])[named == each].sum(0) for each in np.unique(named)])
    used = (np.abs(scores) > 1e-14).any(1).sum()
    return levels, used / (used - 1) * bread @ scores.T @ scores @ bread


def mean_of(alignment, membership, state) -> Floats:
    """Mean over the encoders with a state, image by image."""
    cells = zip(alignment, membership, strict=True)
    return np.array([row[seen == state].mean() if (seen == state).any() else np.nan for row, seen in cells])
