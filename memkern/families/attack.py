"""The auditor's block: how well alignments tell members from others, with intervals that count the threshold too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.families.cells import IN, OUT, UNKNOWN, Cells, Flags, Floats, Membership
from memkern.families.design import MIN_CONTROLS, Design
from memkern.families.layer_reader import Alignment, as_stack, output_of, read_layer
from memkern.families.levels import inverses_without_one, level_model, levels_without_one
from memkern.families.moderated import moderated
from memkern.families.refused import refuse_duplicates
from memkern.families.roc import FPRS, Roc, interval_of_mean, roc

MIN_ENCODERS_LIRA, MIN_PER_SIDE = 8, 8


@dataclass(frozen=True)
class Attack:
    """Results of an attack on every encoder.

    The intervals of the means count both images and trainings as drawn; they are NaN with one encoder.

    Attributes:
        encoders: Per encoder; None where members or others are missing.
        auc: Mean over encoders.
        auc_low: Lower end of its 95 % interval.
        auc_high: Upper end.
        tpr: `[3]`, mean over encoders.
        low: `[3]`, lower end of the 95 % interval of `tpr`.
        high: `[3]`, upper end.
    """

    encoders: tuple[Roc | None, ...]
    auc: float
    auc_low: float
    auc_high: float
    tpr: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Attacks:
    """Three attacks at the output.

    Attributes:
        alignment: By the encoder's own alignment alone; needs no other encoder.
        sslmem: By how much closer its views are than in the encoders that did not see the image.
        lira: By the likelihood ratio against the other encoders; None with fewer than 8.
    """

    alignment: Attack
    sslmem: Attack
    lira: Attack | None


def attack(alignment: Alignment, design: Design, *, output: int = -1) -> Attacks:
    """Attacks every encoder: how often a member is told from an image that the encoder never saw.

    In a varying design members and others are the scored images that the encoder saw and did not see. In a fixed split
    the members of an f are candidates and the others *extra* images (30 at least, else independents); those of a g are
    independents, against *extra* images or candidates.

    Args:
        alignment: `[N, K]` of one layer, or `[L, N, K]`.
        design: Who saw which image.
        output: Which layer is attacked; the last by default.

    Returns:
        The curve of each encoder, with intervals, and their mean.

    Raises:
        DataError: If two encoders are one training.
        NanError: If a known alignment is not finite.
    """
    values = _attacked(alignment, design, output)
    sides = [attack_sides(design, k) for k in range(design.n_encoders)]
    many = design.n_encoders >= MIN_ENCODERS_LIRA
    cells = Cells.of(design.membership)
    left_out = _levels_without_one(values, cells) if many or design.role is None else np.zeros((0, 0))
    ratios = None
    if many:
        by_membership = [_by_membership(design, k) for k in range(design.n_encoders)]
        ratios = _attack(_likelihood_ratios(values, cells, left_out, MIN_PER_SIDE), by_membership)
    return Attacks(
        _attack(-values, sides), _attack(_against_the_others(values, design, cells, left_out), sides), ratios
    )


def alignment_attack(alignment: Alignment, design: Design, *, output: int = -1) -> Attack:
    """Attacks every encoder by its own alignment, as `attack` does; the attacks that take longer are left out.

    Args:
        alignment: `[N, K]` of one layer, or `[L, N, K]`.
        design: Who saw which image.
        output: Which layer is attacked; the last by default.

    Returns:
        The curve of each encoder, with intervals, and their mean.

    Raises:
        DataError: If two encoders are one training.
        NanError: If a known alignment is not finite.
    """
    values = _attacked(alignment, design, output)
    return _attack(-values, [attack_sides(design, k) for k in range(design.n_encoders)])


def lira(alignment: Floats, membership: Membership, *, per_side: int = MIN_PER_SIDE) -> Floats:
    """Log likelihood ratio that encoder k saw image i, by the other encoders: `[N, K]`; NaN without both sides.

    The level of the attacked encoder is a median over images that does not use its membership. Squares are over
    `v (1 + 1/n)`, for a mean of n encoders is uncertain: without that, images that nobody memorized have an AUC below
    0.5.

    Args:
        alignment: `[N, K]`, finite.
        membership: `[N, K]`.
        per_side: From this many encoders a side, an image has variances of its own; else one moderated variance.

    Returns:
        `[N, K]` log likelihood ratios; NaN where an image has no other encoder on a side.
    """
    cells = Cells.of(membership)
    return _likelihood_ratios(alignment, cells, _levels_without_one(alignment, cells), per_side)


def _levels_without_one(alignment: Floats, cells: Cells) -> Floats:
    return levels_without_one(alignment, cells, inverses_without_one(cells, level_model(cells)))


def _likelihood_ratios(alignment: Floats, cells: Cells, levels: Floats, per_side: int) -> Floats:
    """`lira` with levels `[K, K]`, column k being those without encoder k.

    Column k of every matrix is about the other encoders. Sums over them are products of matrices.
    """
    speaks = cells.inside + cells.outside
    about = levels.sum(1) / (
        len(levels) - 1
    )  # what images and encoders have in common goes first: squares would cancel
    left = levels - about[:, None]
    np.fill_diagonal(left, 0.0)
    centred = alignment - about
    centred -= (speaks * centred).sum(1, keepdims=True) / np.maximum(speaks.sum(1, keepdims=True), 1)
    inside, outside = (_without_one(centred, mask, left) for mask in (cells.inside, cells.outside))
    known = (inside.count > 0) & (outside.count > 0) & (speaks > 0)
    middle = (inside.mean + outside.mean) / 2
    degrees = np.maximum(inside.count - 1, 0) + np.maximum(outside.count - 1, 0)
    pooled = (inside.squares + outside.squares) / np.maximum(degrees, 1)
    own = np.minimum(inside.count, outside.count) >= per_side
    scores = np.full(alignment.shape, np.nan)
    for k in np.flatnonzero(known.any(0)).tolist():
        target = centred[:, k] - np.median((centred[:, k] - middle[:, k])[known[:, k]])
        shared = moderated(pooled[:, k], degrees[:, k]).variances
        with np.errstate(divide="ignore", invalid="ignore"):
            (as_in, var_in), (as_out, var_out) = (side.distance(target, k, own, shared) for side in (inside, outside))
            scores[:, k] = np.where(known[:, k], (as_out - as_in + np.log(var_out / var_in)) / 2, np.nan)
    return scores


@dataclass(frozen=True)
class _OneSide:
    """Count, mean and squares about it, `[N, K]`, of the encoders but one that saw an image, or that did not."""

    count: Floats
    mean: Floats
    squares: Floats

    def distance(self, target: Floats, k: int, own: Flags, shared: Floats) -> tuple[Floats, Floats]:
        """Square of the target's distance to the mean over what it would be by chance, `[N]`, and the variance."""
        count = self.count[:, k]
        variance = np.where(own[:, k], self.squares[:, k] / np.maximum(count - 1, 1), shared)
        return (target - self.mean[:, k]) ** 2 / (variance * (1 + 1 / count)), variance


def _without_one(alignment: Floats, mask: Floats, levels: Floats) -> _OneSide:
    """Makes one side of each image, column k without encoder k and after the levels in column k."""
    own = mask * alignment
    count = mask.sum(1, keepdims=True) - mask
    total = own.sum(1, keepdims=True) - own - mask @ levels
    squares = (own * alignment).sum(1, keepdims=True) - own * alignment - 2 * own @ levels + mask @ levels**2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        return _OneSide(count, mean, np.maximum(squares - np.where(count > 0, total * mean, 0.0), 0.0))


@dataclass(frozen=True)
class OneRun:
    """A lower bound on epsilon from one training.

    Attributes:
        epsilon: The largest epsilon that the guesses refute; 0 if none.
        right: How many guesses were right.
        guesses: How many were made.
        images: How many images were in or out by chance.
    """

    epsilon: float
    right: int
    guesses: int
    images: int


def one_run_epsilon(alignment: ArrayLike, member: ArrayLike, *, delta: float = 0.0, level: float = 0.95) -> OneRun:
    """Bounds epsilon of differential privacy from below by one training (Steinke, Nasr, Jagielski 2023).

    Valid only if a fair coin decided for each image, independently, whether the encoder saw it. The tenth with the
    least alignment is guessed in, the tenth with the most out; how many is fixed beforehand. SSLMem must not be used in
    place of the alignment: the other encoder saw the images that this one did not.

    Args:
        alignment: `[m]`, of the encoder under audit.
        member: `[m]` bool, whether the encoder saw the image.
        delta: Of (epsilon, delta).
        level: Confidence.

    Returns:
        The bound, and how many of how many guesses were right.

    Raises:
        ArgumentValueError: If shapes differ, an alignment is not finite, or there are fewer than 10 images.
    """
    values, seen = np.asarray(alignment, dtype=np.float64), np.asarray(member, dtype=np.bool_)
    each = len(values) // 10
    if values.ndim != 1 or values.shape != seen.shape or each == 0 or not np.isfinite(values).all():
        raise ArgumentValueError("Expected finite `alignment` and `member` of one shape [m] with m >= 10")
    order = np.argsort(values, kind="stable")
    right = int(seen[order[:each]].sum() + (~seen[order[-each:]]).sum())
    epsilon = epsilon_lower_bound(len(values), 2 * each, right, delta=delta, level=level)
    return OneRun(epsilon, right, 2 * each, len(values))


def epsilon_lower_bound(images: int, guesses: int, right: int, *, delta: float = 0.0, level: float = 0.95) -> float:
    """The largest epsilon refuted by so many right guesses; 0 if none, 50 at most.

    `P(V >= v) <= P(B >= v) + 2 m delta max_i P(v > B >= v - i) / i` with B binomial(r, e^eps / (1 + e^eps)).

    Args:
        images: m, the images in or out by fair coins.
        guesses: r, fixed beforehand.
        right: v of them.
        delta: Of (epsilon, delta).
        level: Confidence.

    Returns:
        The bound, between 0 and 50.

    Example:
        >>> round(epsilon_lower_bound(100, 20, 20), 2)
        1.82
    """
    binom = require("scipy.stats", "scipy").binom

    def excess(epsilon: float) -> float:
        chance = 1 / (1 + math.exp(-epsilon))
        more = 0.0
        if delta and right:
            below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
            more = float((below / np.arange(1, right + 1)).max())
        return float(binom.sf(right - 1, guesses, chance)) + 2 * images * delta * more - (1 - level)

    if excess(0.0) > 0:
        return 0.0
    if excess(50.0) <= 0:
        return 50.0
    return float(require("scipy.optimize", "scipy").brentq(excess, 0, 50))


def _attacked(alignment: Alignment, design: Design, output: int) -> Floats:
    """The alignments `[N, K]` of the layer that is attacked; no two of its encoders are one training."""
    stack = as_stack(alignment)
    values = read_layer(stack, output_of(stack, output), design)
    refuse_duplicates(values, design)
    return values


def attack_sides(design: Design, k: int) -> tuple[Flags, Flags]:
    """Finds the images by which `attack` judges an encoder.

    Args:
        design: Who saw which image.
        k: Place of the encoder.

    Returns:
        The members and the others, `[N]` each.
    """
    if design.role is None:
        return _by_membership(design, k)
    candidates, independents, extra = (design.group(name) for name in ("candidate", "independent", "extra"))
    members, exchanged = (candidates, independents) if design.role[k] else (independents, candidates)
    return members, extra if extra.sum() >= MIN_CONTROLS else exchanged


def _by_membership(design: Design, k: int) -> tuple[Flags, Flags]:
    column = design.membership[:, k]
    speaks = design.scored if design.role is None else np.ones(len(column), dtype=np.bool_)
    return speaks & (column == IN), speaks & (column == OUT)


def _against_the_others(values: Floats, design: Design, cells: Cells, levels: Floats) -> Floats:
    """Mean alignment over the other encoders that did not see the image, minus the encoder's own: `[N, K]`.

    By role in a fixed split, so that images of every group have a score: the g's are the others of an f.
    """
    if design.role is not None:
        means = np.where(design.role, values[:, ~design.role].mean(1)[:, None], values[:, design.role].mean(1)[:, None])
        return np.where(design.membership == UNKNOWN, np.nan, means - values)
    own = cells.outside * values
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (own.sum(1, keepdims=True) - own - cells.outside @ levels) / (cells.n_out[:, None] - cells.outside)
    return np.where(design.membership == UNKNOWN, np.nan, means - values)


def _attack(scores: Floats, sides: list[tuple[Flags, Flags]]) -> Attack:
    found: list[Roc | None] = []
    for column, (members, others) in zip(scores.T, sides, strict=True):
        finite = np.isfinite(column)
        positive, negative = column[members & finite], column[others & finite]
        found.append(roc(positive, negative) if len(positive) and len(negative) else None)
    known = [each for each in found if each is not None]
    table = np.full((3, max(len(known), 1), 1 + len(FPRS)), np.nan)  # [value and ends, encoders, AUC and rates]
    for k, each in enumerate(known):
        table[:, k, 0], table[:, k, 1:] = (each.auc, each.auc_low, each.auc_high), (each.tpr, each.low, each.high)
    low, high = interval_of_mean(*table)
    mean = table[0].mean(0)
    return Attack(tuple(found), float(mean[0]), float(low[0]), float(high[0]), mean[1:], low[1:], high[1:])
