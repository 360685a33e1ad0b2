"""The few statistics that reports and comparisons need. Everything random is seeded."""

from __future__ import annotations

from typing import NamedTuple

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


class Welch(NamedTuple):
    """A one-sided Welch test.

    Attributes:
        t: The statistic, of b against a.
        p: One-sided p-value.
        d: Cohen's d: the difference of the means, b - a, over the root of the mean variance.
    """

    t: float
    p: float
    d: float


def welch(a: Floats, b: Floats, alternative: str) -> Welch:
    """Tests whether the mean of `b` is "less" or "greater" than that of `a`, without assuming equal variances.

    Args:
        a: `[N]`.
        b: `[M]`.
        alternative: "less" or "greater".

    Returns:
        The test; NaN where it is undefined (fewer than 2 values, NaN among them, no variance at all).

    Raises:
        ImportError: If scipy is missing.
    """
    undefined = Welch(float("nan"), float("nan"), float("nan"))
    if min(len(a), len(b)) < 2 or np.isnan(a).any() or np.isnan(b).any():
        return undefined
    variance = (a.var(ddof=1) + b.var(ddof=1)) / 2
    if variance == 0:
        return undefined
    result = require("scipy.stats", "scipy").ttest_ind(b, a, equal_var=False, alternative=alternative)
    return Welch(float(result.statistic), float(result.pvalue), float((b.mean() - a.mean()) / np.sqrt(variance)))


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
