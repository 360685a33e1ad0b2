"""p-values that need no model of the noise: conformal, permutation of groups and of memberships; q-values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from memkern.errors import ArgumentValueError
from memkern.families.cells import UNKNOWN, Flags, Floats, Ints, Membership
from memkern.families.exchange import numbered

ENTRIES_A_CHUNK = 1 << 22
"""How many numbers a chunk of draws holds: 32 MiB of float64."""


def conformal_p(scores: ArrayLike, control: ArrayLike) -> Floats:
    """p-values of scores against control scores: `(1 + #{control >= score}) / (n + 1)`; ties count against the claim.

    Valid if an image that is not memorized and the controls are exchangeable: one source, drawn at random.

    Args:
        scores: `[C]`; a NaN has a p of NaN.
        control: `[n]`.

    Returns:
        `[C]`.

    Raises:
        ArgumentValueError: If there is no control, or one is NaN.

    Example:
        >>> conformal_p([0.3, 0.1], [0.0, 0.1, 0.2]).tolist()
        [0.25, 0.75]
    """
    tested, ordered = np.asarray(scores, dtype=np.float64), np.sort(np.asarray(control, dtype=np.float64))
    if len(ordered) == 0 or np.isnan(ordered).any():
        raise ArgumentValueError(f"Expected `control` to hold scores without NaN, got {len(ordered)} scores")
    p = (1 + len(ordered) - np.searchsorted(ordered, tested, "left")) / (len(ordered) + 1)
    return np.where(np.isnan(tested), np.nan, p)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """q-values: the least false-discovery rate at which an image would be called.

    Args:
        p: `[N]`; NaN stays NaN and counts for nothing.

    Returns:
        `[N]`.

    Example:
        >>> benjamini_hochberg([0.01, 0.02, 0.5, float("nan")]).tolist()
        [0.03, 0.03, 0.5, nan]
    """
    given = np.asarray(p, dtype=np.float64)
    q, known = np.full(given.shape, np.nan), np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    scaled = given[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q


@dataclass(frozen=True)
class GroupTest:
    """A one-sided permutation test of a group.

    Attributes:
        total: Sum of the values over the group.
        expected: Its mean when labels mean nothing.
        p: `(1 + #{drawn >= total}) / (draws + 1)`.
    """

    total: float
    expected: float
    p: float


def group_test(
    values: ArrayLike,
    group: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    pictures: ArrayLike | None = None,
    draws: int = 9999,
    seed: int = 0,
) -> GroupTest:
    """Tests whether a group has larger values than its label would give by chance.

    Labels are exchanged within strata, as they were drawn: strata are pictures (else classes or folders) where groups
    were drawn within them. Where whole pictures were drawn, `pictures` are exchanged instead of images; images of one
    picture resemble one another, so exchanging them would call far too much. `exchange_of_group` finds which it was.

    Args:
        values: `[N]`.
        group: `[N]` bool.
        strata: `[N]`, whatever names the stratum of an image; one stratum by default.
        pictures: `[N]`, whatever names the picture of an image; each picture belongs to the group as a whole or not.
        draws: How many labellings are drawn.
        seed: Seed of the draws.

    Returns:
        The difference of the means, and its one-sided p-value.

    Raises:
        ArgumentValueError: If shapes differ, a value is NaN, or a picture is not in one stratum and in the group
                or out of it as a whole.
    """
    amount, treated = np.asarray(values, dtype=np.float64), np.asarray(group, dtype=np.bool_)
    none = np.zeros(len(amount), dtype=np.int64)
    stratum = none if strata is None else numbered(strata, len(amount), "strata")
    if treated.shape != amount.shape or np.isnan(amount).any():
        raise ArgumentValueError("Expected `values` without NaN and `group`, both of shape [N]")
    if pictures is not None:
        picture = numbered(pictures, len(amount), "pictures")
        sizes = np.bincount(picture)
        inside = np.bincount(picture, treated)
        own = np.full(len(sizes), -1, dtype=np.int64)
        own[picture] = stratum
        if ((inside > 0) & (inside < sizes)).any() or (own[picture] != stratum).any():
            raise ArgumentValueError(
                "Expected every picture to lie in the group or out of it as a whole, and in one stratum: images were "
                "drawn within pictures, so give the pictures as `strata`"
            )
        sums: Floats = np.bincount(picture, amount).astype(np.float64)
        amount, treated, stratum = sums, inside > 0, own
    return _exchange(amount, treated, stratum, draws, np.random.default_rng(seed))


def _exchange(amount: Floats, treated: Flags, stratum: Ints, draws: int, rng: np.random.Generator) -> GroupTest:
    expected, null = 0.0, np.zeros(draws)
    for number in np.unique(stratum):
        own = amount[stratum == number]
        count = int(treated[stratum == number].sum())
        expected += float(own.mean()) * count
        if count in (0, len(own)):
            null += own.sum() if count else 0.0
            continue
        fewer = min(count, len(own) - count)  # the drawn ones, or what they leave
        step = max(1, ENTRIES_A_CHUNK // len(own))
        for start in range(0, draws, step):
            keys = rng.random((min(step, draws - start), len(own)))
            drawn = own[np.argpartition(keys, fewer - 1, axis=1)[:, :fewer]].sum(1)
            null[start : start + step] += drawn if fewer == count else own.sum() - drawn
    total = float(amount[treated].sum())
    hits = int((null >= total - 1e-9 * float(np.abs(amount).sum())).sum())
    return GroupTest(total, expected, (1 + hits) / (draws + 1))


def membership_permutation_p(
    alignment: Floats,
    membership: Membership,
    *,
    draws: int = 9999,
    exact_to: int = 20000,
    at_least: int = 1000,
    seed: int = 0,
) -> Floats:
    """Permutation p of every image: its row of the membership is drawn anew among the encoders, with as many in.

    Images with equally many known encoders and encoders in share their draws: a p is valid for each image.

    Args:
        alignment: `[N, K]`, after levels.
        membership: `[N, K]`; unknown entries are left out.
        draws: How many memberships are drawn where there are more than `exact_to`.
        exact_to: Up to this many memberships, all are looked at.
        at_least: With fewer memberships than this no useful p is possible, and it is NaN.
        seed: Seed of the draws.

    Returns:
        `[N]`.
    """
    known = membership != UNKNOWN
    first = np.argsort(~known, axis=1, kind="stable")  # known entries to the left
    values = np.take_along_axis(np.where(known, alignment, 0.0), first, 1)
    inside = np.take_along_axis(membership == 1, first, 1)
    kinds = np.stack([known.sum(1), inside.sum(1)], 1)
    p, rng = np.full(len(values), np.nan), np.random.default_rng(seed)
    for n, n_in in np.unique(kinds, axis=0):
        ways = math.comb(int(n), int(n_in))
        if ways < max(at_least, 2):
            continue
        chosen = _subsets(int(n), int(n_in), ways if ways <= exact_to else draws, ways <= exact_to, rng)
        images = np.flatnonzero((kinds == (n, n_in)).all(1))
        step = max(1, ENTRIES_A_CHUNK // chosen.shape[1])
        for start in range(0, len(images), step):
            some = images[start : start + step]
            own, mask = values[some, :n], inside[some, :n]
            limit = np.where(mask, own, 0.0).sum(1) + 1e-12 * np.abs(own).sum(1)
            hits = (own @ chosen <= limit[:, None]).sum(1)  # a smaller sum inside is a larger difference
            p[some] = hits / ways if ways <= exact_to else (1 + hits) / (draws + 1)
    return p


def _subsets(n: int, n_in: int, count: int, every: bool, rng: np.random.Generator) -> Floats:
    """Memberships of n encoders with n_in in, `[n, count]`: every one, or as many as are drawn."""
    members = np.array(list(combinations(range(n), n_in))) if every else np.argsort(rng.random((count, n)), 1)[:, :n_in]
    table = np.zeros((count, n))
    np.put_along_axis(table, members, 1.0, 1)
    return np.ascontiguousarray(table.T)
