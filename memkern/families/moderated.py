"""Moderated variances: a variance of few encoders leans on what all images say (Smyth 2004, limma)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memkern._util.optional_imports import require
from memkern.families.cells import Floats


@dataclass(frozen=True)
class Moderated:
    """Variances after moderation.

    Attributes:
        variances: `[N]`.
        degrees: `[N]`, degrees of freedom of each.
        prior_degrees: What the prior counts for; infinite where variances spread no more than chance makes them.
        prior_variance: Where the prior lies.
    """

    variances: Floats
    degrees: Floats
    prior_degrees: float
    prior_variance: float


def moderated(variances: Floats, degrees: Floats) -> Moderated:
    """Moderates the variances of images.

    Args:
        variances: `[N]`, squares about the cell means over `degrees`.
        degrees: `[N]`; an image with less than 1 gets the prior.

    Returns:
        The moderated variances `[N]`, their degrees of freedom `[N]`, and the prior.
    """
    special = require("scipy.special", "scipy")
    speaks = degrees >= 1
    if not speaks.any():
        empty = np.full(len(variances), np.nan)
        return Moderated(empty, empty.copy(), math.nan, math.nan)
    own, d = variances[speaks], degrees[speaks].astype(np.float64)
    floor = 1e-5 * float(np.median(own)) + 1e-300  # a variance of exactly 0 would be a logarithm of minus infinity
    logs = np.log(np.maximum(own, floor)) - special.digamma(d / 2) + np.log(d / 2)
    spread = float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean()) if len(own) > 2 else 0.0
    total = float(d.sum())
    if spread <= 1e-8:
        pooled = float((d * own).sum() / total)
        everywhere = np.full(len(variances), pooled)
        return Moderated(everywhere, np.full(len(variances), total), math.inf, pooled)
    half = _trigamma_inverse(spread)
    prior_degrees = 2 * half
    prior = math.exp(float(logs.mean()) + float(special.digamma(half)) - math.log(half))
    known = np.where(speaks, degrees, 0)
    blended = (prior_degrees * prior + known * np.where(speaks, variances, 0)) / (prior_degrees + known)
    return Moderated(blended, np.minimum(prior_degrees + known, total), prior_degrees, prior)


def _trigamma_inverse(value: float) -> float:
    """The y > 0 with `trigamma(y) = value`, by Newton on 1 / trigamma, which is convex and nearly a line."""
    polygamma = require("scipy.special", "scipy").polygamma
    y = 0.5 + 1 / value
    for _ in range(100):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) <= 1e-15 * y:
            break
    return y
