"""Areas under the curve and rates of scores that tell members from others, with intervals that count the threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.families.cells import Floats

FPRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Roc:
    """Success of scores that tell members from others.

    Attributes:
        auc: Area under the curve, ties counting a half.
        auc_low: Lower end of the 95 % interval of `auc`; see `auc_interval`.
        auc_high: Upper end.
        tpr: `[3]`, true-positive rate at 10, 1 and 0.1 % false positives; NaN where fewer than one other is allowed.
        low: `[3]`, lower end of the 95 % interval of `tpr`.
        high: `[3]`, upper end.
        n_members: How many members.
        n_others: How many others.
    """

    auc: float
    auc_low: float
    auc_high: float
    tpr: Floats
    low: Floats
    high: Floats
    n_members: int
    n_others: int


def roc(members: ArrayLike, others: ArrayLike, *, fpr: tuple[float, ...] = FPRS, level: float = 0.95) -> Roc:
    """The area under the curve, and true-positive rates at low false-positive rates with intervals.

    The threshold is estimated from the others, so an interval for a known threshold is too short: half of the error
    goes to the order statistics of the others that enclose the true threshold, half to Clopper-Pearson there.

    Args:
        members: `[m]` scores, larger meaning "member".
        others: `[n]`.
        fpr: False-positive rates.
        level: Coverage of the intervals.

    Returns:
        The area under the curve, and per false-positive rate the true-positive rate with its interval.

    Raises:
        ArgumentValueError: If a score is NaN, or members or others are missing.

    Example:
        >>> roc([0.9, 0.8, 0.3], [0.7, 0.2, 0.1, 0.0], fpr=(0.25,)).tpr.tolist()
        [1.0]
    """
    stats = require("scipy.stats", "scipy")
    positive, negative = np.asarray(members, dtype=np.float64), np.asarray(others, dtype=np.float64)
    m, n, alpha = len(positive), len(negative), 1 - level
    if m == 0 or n == 0 or np.isnan(positive).any() or np.isnan(negative).any():
        raise ArgumentValueError(f"Expected scores without NaN of members and of others, got {m} and {n}")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - stats.rankdata(positive)) / n  # [m], share of the others below a member
    below = 1 - (ranks[m:] - stats.rankdata(negative)) / m  # [n], share of the members above another
    descending = np.append(np.sort(negative)[::-1], -np.inf)
    rows = []
    for rate in fpr:
        allowed = int(rate * n + 1e-9)
        if not allowed:
            rows.append((math.nan,) * 3)
            continue
        first, last = (int(stats.binom.ppf(share, n, rate)) for share in (alpha / 4, 1 - alpha / 4))
        surely = int((positive >= descending[first - 1]).sum())
        possibly = int((positive > descending[min(last, n)]).sum())
        low = clopper_pearson(surely, m, level=1 - alpha / 2)[0] if first else 0.0
        high = clopper_pearson(possibly, m, level=1 - alpha / 2)[1]
        rows.append((float((positive > descending[allowed]).mean()), low, high))
    tpr, low_ends, high_ends = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    auc = float(above.mean())
    variance = float(above.var(ddof=1) / m + below.var(ddof=1) / n) if min(m, n) > 1 else 0.0
    ends = auc_interval(auc, m, n, variance=variance, level=level)
    return Roc(auc, *ends, tpr, low_ends, high_ends, m, n)


def auc_interval(
    auc: float, members: int, others: int, *, variance: float = 0.0, level: float = 0.95
) -> tuple[float, float]:
    """The score interval of an area under the curve (Newcombe 2006, method 5), which 0 and 1 do not break.

    Its ends are the areas `A` from which the one found lies `z sqrt(V(A))` away, with `V(A) = A (1 - A) (2 N - 1 -
    3 (N - 1) / ((2 - A) (1 + A))) / (m n)` and `N = (m + n) / 2`. That is too little where members spread more than
    others, as they do if some are memorized and some are not; `V` is multiplied so that it is no less than `variance`
    at the area found. Scores of images are taken to be independent.

    Args:
        auc: The area found.
        members: m.
        others: n.
        variance: That of the area without a model (DeLong, DeLong and Clarke-Pearson 1988).
        level: Coverage.

    Returns:
        The lower and the upper end.

    Example:
        >>> [round(end, 3) for end in auc_interval(1.0, 20, 20)]
        [0.899, 1.0]
    """
    half, z = (members + others) / 2, float(require("scipy.stats", "scipy").norm.ppf((1 + level) / 2))

    def modelled(area: float) -> float:
        shape = 2 * half - 1 - 3 * (half - 1) / ((2 - area) * (1 + area))
        return area * (1 - area) * shape / (members * others)

    wider = max(1.0, variance / modelled(auc)) if 0 < auc < 1 else 1.0

    def lower(found: float) -> float:
        def beyond(area: float) -> float:
            return found - area - z * math.sqrt(wider * modelled(area))

        nearly = min(found, 1 - 1e-12)  # at exactly 1 the variance is 0, and 1 itself would be a solution
        return float(require("scipy.optimize", "scipy").brentq(beyond, 0.0, nearly)) if found > 0 else 0.0

    return lower(auc), 1 - lower(1 - auc)


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share.

    Args:
        successes: How many trials succeeded.
        trials: How many trials there were.
        level: Coverage.

    Returns:
        The lower and the upper end.

    Example:
        >>> [round(end, 3) for end in clopper_pearson(0, 10)]
        [0.0, 0.308]
    """
    beta, tail = require("scipy.stats", "scipy").beta, (1 - level) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def interval_of_mean(values: Floats, low: Floats, high: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """An interval of the mean over encoders of rates, that counts both images and trainings as drawn.

    Encoders share their images, so errors of one do not average out over the others: a side is as long as the
    encoders' own sides on average, and as the t interval between encoders, taken together as a root of squares.

    Args:
        values: `[K, ...]`, of each encoder, between 0 and 1.
        low: `[K, ...]`, lower ends of the encoders' own intervals.
        high: `[K, ...]`, upper ends.
        level: Coverage.

    Returns:
        The lower and the upper end, `[...]` each; NaN with one encoder.
    """
    count, mean = len(values), values.mean(0)
    if count < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    reach = require("scipy.stats", "scipy").t.ppf((1 + level) / 2, count - 1)
    between = reach * values.std(0, ddof=1) / math.sqrt(count)
    below, above = (np.hypot(mean - end.mean(0), between) for end in (low, high))
    return np.maximum(mean - below, 0.0), np.minimum(mean + above, 1.0)
