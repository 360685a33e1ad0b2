"""The few statistics that reports and comparisons need. Everything random is seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkern._util.optional_imports import require

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def resampled_means(values: Floats, *, resamples: int = 2000, seed: int = 0) -> Floats:
    """Computes column means of bootstrap resamples.

    Rows are drawn with replacement, whole rows at a time: all columns share the resamples, so what is paired stays so.

    Args:
        values: `[N, C]`.
        resamples: How many resamples.
        seed: Seed of the resamples.

    Returns:
        `[resamples, C]`; a column that holds NaN gives NaN.
    """
    count = len(values)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    chunk = max(1, (1 << 22) // count)  # 32 MiB of drawn rows at a time, whatever the number of resamples
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = weights @ values / count
    return means


def interval(means: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Computes the percentile confidence interval of each column of bootstrap means.

    Args:
        means: Means of the resamples, `[resamples, C]`.
        level: Confidence level, between 0 and 1.

    Returns:
        Lower and upper ends, `[C]` each.

    Example:
        >>> import numpy as np
        >>> low, high = interval(resampled_means(np.array([[1.0], [2.0], [3.0], [4.0]])))
        >>> bool(1.0 < low[0] < 2.5 < high[0] < 4.0)
        True
    """
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def cohens_d(a: Floats, b: Floats) -> float:
    """Computes Cohen's d: the difference of the means, b - a, over the root of the mean variance.

    Args:
        a: `[N]`.
        b: `[M]`.

    Returns:
        The effect size; NaN where it is undefined (fewer than 2 values, NaN among them, no variance at all).
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    variance = (a.var(ddof=1) + b.var(ddof=1)) / 2
    return float((b.mean() - a.mean()) / np.sqrt(variance)) if variance > 0 else float("nan")


def paired_p(differences: Floats, alternative: str, *, draws: int = 9999, seed: int = 0) -> Floats:
    """Tests mean differences of pairs by exchanging the two of a pair: permutation within strata of one image.

    Columns share the draws. `memkern.families.group_test` with one stratum a pair is the same test of one column.

    Args:
        differences: `[N, C]`, b - a of every pair; a column that holds NaN is not tested.
        alternative: Whether b is asked to be "less" or "greater" than a.
        draws: How many exchanges are drawn.
        seed: Seed of the draws.

    Returns:
        `(1 + #{drawn >= observed}) / (draws + 1)`, `[C]`.
    """
    signed = differences if alternative == "greater" else -differences
    floor = signed.sum(0) - 1e-9 * np.abs(signed).sum(0)  # ties by rounding count against the claim
    generator = np.random.default_rng(seed)
    hits = np.zeros(signed.shape[1])
    chunk = max(1, (1 << 22) // max(1, len(signed)))
    for start in range(0, draws, chunk):
        coins = generator.integers(0, 2, size=(min(chunk, draws - start), len(signed)), dtype=np.int8)
        hits += ((2.0 * coins - 1.0) @ signed >= floor).sum(0)
    return np.where(np.isnan(floor), np.nan, (1 + hits) / (draws + 1))


@dataclass(frozen=True)
class TrainingMean:
    """Mean over trainings with its error.

    Attributes:
        value: The mean.
        se: Its standard error over trainings; NaN with one training in a role.
        degrees: Degrees of freedom of `se`.
    """

    value: float
    se: float
    degrees: float


def welch_interval(a: TrainingMean, b: TrainingMean, alternative: str, level: float) -> tuple[float, float, float]:
    """Computes the interval of b - a and its one-sided p by Welch's t, with trainings as what was drawn.

    Args:
        a: An estimate over trainings.
        b: Another one, of other trainings.
        alternative: Whether b is asked to be "less" or "greater" than a.
        level: Confidence level.

    Returns:
        Lower end, upper end and p; NaN where an estimate has no error.

    Raises:
        ImportError: If scipy is missing.

    Example:
        >>> low, high, p = welch_interval(TrainingMean(0.0, 1.0, 1), TrainingMean(0.0, 1.0, 1), "less", 0.95)
        >>> round(high, 2), p
        (6.08, 0.5)
    """
    parts = np.array([a.se**2, b.se**2])
    degrees = np.array([a.degrees, b.degrees], dtype=np.float64)
    if not np.isfinite(parts).all() or parts.sum() == 0 or (degrees < 1).any():
        return (float("nan"),) * 3
    t = require("scipy.stats", "scipy").t
    se, df = float(np.sqrt(parts.sum())), float(parts.sum() ** 2 / (parts**2 / degrees).sum())
    difference, reach = b.value - a.value, float(t.ppf((1 + level) / 2, df)) * se
    p = float(t.sf((difference if alternative == "greater" else -difference) / se, df))
    return difference - reach, difference + reach, p


def holm(p: Floats) -> Floats:
    """Corrects p-values for testing all of them, by Holm's method.

    Args:
        p: `[T]`; NaN is no test and stays NaN.

    Returns:
        Adjusted p-values, `[T]`.

    Example:
        >>> import numpy as np
        >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def kendall(a: Floats, b: Floats) -> float:
    """Computes Kendall's tau-b between two lists of scores; pairs with a NaN are left out.

    Args:
        a: Scores, `[N]`.
        b: Scores of the same points, `[N]`.

    Returns:
        The tau; NaN if one list is constant.

    Raises:
        ImportError: If scipy is missing.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() < 2:
        return float("nan")
    return float(require("scipy.stats", "scipy").kendalltau(a[both], b[both], variant="b").statistic)


def largest(values: Floats, k: int) -> Ints:
    """Finds the positions of the k largest values, largest first, the first position on ties; NaN never counts.

    Args:
        values: `[N]`.
        k: How many.

    Returns:
        The positions, `[min(k, N)]` or fewer where values are NaN.

    Example:
        >>> import numpy as np
        >>> largest(np.array([1.0, np.nan, 3.0, 3.0]), 2).tolist()
        [2, 3]
    """
    order = np.argsort(-values, kind="stable")  # NaN comes last
    return order[: min(k, int((~np.isnan(values)).sum()))]


def overlap(a: Floats, b: Floats, k: int) -> float:
    """Computes the share of the k largest values of `a` and `b`, `[N]` each, that are at the same positions in both."""
    top = set(largest(a, k).tolist()) & set(largest(b, k).tolist())
    return len(top) / k
