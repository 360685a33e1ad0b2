"""Simulated alignments of families of encoders, and dense float64 regressions to compare the closed forms with."""

from __future__ import annotations

import numpy as np
from family_simulation.worlds import AS_IS, Floats, World, random_rows, simulate, split_groups

__all__ = ["AS_IS", "World", "mean_of", "random_rows", "regression", "simulate", "split_groups"]


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
