"""Means over images, peaks of units, rankings and attacks: coverage, sizes and gaps where the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from family_simulation.worlds import World, random_rows, simulate, split_groups
from memkern import families
from memkern.families import LayerScores
from memkern.families.roc import interval_of_mean

Floats = NDArray[np.float64]
Run = Callable[[np.random.Generator], tuple[float, ...]]


@dataclass(frozen=True)
class Check:
    """A number with a known answer.

    Attributes:
        name: Of the check.
        run: Draws one family and gives its numbers.
        tell: Puts the numbers of all runs `[runs, ...]` into words.
        expected: What is expected, in words.
        runs: How many families are drawn.
    """

    name: str
    run: Run
    tell: Callable[[Floats], str]
    expected: str
    runs: int


HEAD = """| number | runs | found | expected |
| --- | --- | --- | --- |"""


def checks() -> list[Check]:
    """The checks, in the order of the table."""
    found = []
    for count in (4, 8, 16):
        name = f"LayerMem, halves, K = {count}: the 95 % interval covers 0; se over the true sd"
        found.append(Check(name, partial(_covered, count // 2, 0), _coverage, "at least .93", 400))
    for n in (2, 4, 8):
        name = f"excess, f/g {n} + {n}: the 95 % interval covers 0; se over the true sd"
        found.append(Check(name, partial(_covered, n, 100), _coverage, "at least .93", 400))
    for count in (4, 8, 16):
        name = f"top minus least, nothing memorized, K = {count}: by halves of the encoders (by the same encoders)"
        found.append(Check(name, partial(_gap, count), _means, "0", 200))
    found.append(
        Check("the same of a pair: by halves of the views (by the same)", _gap_of_views, _means, "above 0", 200)
    )
    for count in (4, 8, 16):
        name = f"reliability, K = {count} (squared correlation with the truth)"
        found.append(Check(name, partial(_reliable, count), _means, "equal", 10))
    peaks = "share of member_peaks with p <= .05, one encoder of 60 images and 256 units"
    found.append(Check(f"{peaks}: nothing memorized", partial(_peaks, 1.0, False), _share, ".05", 2000))
    found.append(Check(f"{peaks}: 20 % stronger on members", partial(_peaks, 1.2, False), _share, "power", 300))
    found.append(Check(f"{peaks}: one image takes most peaks", partial(_peaks, 1.2, True), _share, "power", 300))
    name = "likelihood ratios, K = 10: AUC of memorized images (of others)"
    found.append(Check(name, _likelihood, _means, ".5 for the others", 20))
    found.append(Check("true-positive rate at 10 %: the interval covers", _rate_covered, _share, "at least .95", 2000))
    for sd in (1, 2):
        name = f"area under the curve, members {sd} times as spread as others: the interval covers"
        found.append(Check(name, partial(_area_covered, float(sd)), _share, ".95", 2000))
    name = "mean area of 4 trainings: the interval covers"
    found.append(Check(name, _mean_area_covered, _share, "at least .95", 500))
    found.append(Check("epsilon of 1: the bound lies above it", _epsilon, _share, "at most .05", 2000))
    return found


def found_in(check: Check, runs: int | None = None) -> tuple[Floats, int]:
    """The numbers of every run of a check, and how many runs."""
    count = check.runs if runs is None else runs
    seed = crc32(check.name.encode())
    return np.array([check.run(np.random.default_rng([seed, run])) for run in range(count)]), count


def line(check: Check, values: Floats, runs: int) -> str:
    """The check in markdown."""
    return f"| {check.name} | {runs} | {check.tell(values)} | {check.expected} |"


def _share(values: Floats) -> str:
    share = values[:, 0].mean()
    return f"{share:.3f} ± {np.sqrt(share * (1 - share) / len(values)):.3f}"


def _means(values: Floats) -> str:
    first, second = values.mean(0)
    return f"{first:.3f} ({second:.3f})"


def _coverage(values: Floats) -> str:
    covered, estimates, errors = values.T
    return f"{covered.mean():.3f}; {errors.mean() / estimates.std(ddof=1):.2f}"


def _covered(n: int, controls: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Nothing is memorized; pictures of 10 images share half of their noise."""
    if controls:
        membership = families.membership_of_groups(split_groups(300, controls), n_f=n, n_g=n)
    else:
        membership = random_rows(rng, 300, 2 * n, n)
    pictures = rng.permutation(len(membership)) // 10
    alignment, _ = simulate(membership, rng, World(share=0.0, shared=0.5), pictures=pictures)
    found = families.layer_scores(alignment, families.design(membership, pictures=pictures), splits=1)
    return float(found.low[0] <= 0 <= found.high[0]), float(found.excess[0]), float(found.se[0])


def _between(found: LayerScores) -> float:
    return float(found.top[0] - found.least[0])


def _gap(count: int, rng: np.random.Generator) -> tuple[float, float]:
    membership = random_rows(rng, 300, count, count // 2)
    alignment, _ = simulate(membership, rng, World(share=0.0))
    design = families.design(membership)
    scores = families.image_scores(alignment, design)
    order = np.argsort(-scores.sslmem[0])
    same = scores.ratio[0, order[:50]].mean() - scores.ratio[0, order[-50:]].mean()
    return _between(families.layer_scores(alignment, design, splits=5)), float(same)


def _gap_of_views(rng: np.random.Generator) -> tuple[float, float]:
    """A pair whose encoders have noise of .03 that all views share, and of .03 in each half of the views."""
    design = families.design(families.membership_of_groups(split_groups(300, 100)))
    both, _ = simulate(design.membership, rng, World(share=0.0))
    even, odd = both + 0.03 * rng.normal(size=(2, *both.shape))
    whole = (even + odd) / 2
    order = np.argsort(-(whole[:300, 1] - whole[:300, 0]))
    ratio = (whole[:300, 1] - whole[:300, 0]) / whole[:300].sum(1)
    same = ratio[order[:50]].mean() - ratio[order[-50:]].mean()
    return _between(families.layer_scores(whole, design, halves=(even, odd))), float(same)


def _reliable(count: int, rng: np.random.Generator) -> tuple[float, float]:
    membership = random_rows(rng, 4000, count, count // 2)
    alignment, memorized = simulate(membership, rng)
    found = families.image_scores(alignment, families.design(membership))
    return float(found.reliability[0]), float(np.corrcoef(found.sslmem[0], memorized)[0, 1] ** 2)


def _peaks(stronger: float, outlier: bool, rng: np.random.Generator) -> tuple[float, ...]:
    """Units share what they answer to, so that they peak at few images."""
    groups = [["candidate", "independent"][each] for each in rng.permutation(np.arange(60) % 2)]
    membership = families.membership_of_groups(groups)
    design = families.design(membership)
    counts = []
    for encoder in range(2):
        means = np.abs(rng.normal(size=(60, 12)) @ rng.normal(size=(12, 256)))
        means[membership[:, encoder] == 1] *= stronger
        if outlier:
            means[0] *= 3
        counts.append(families.peak_counts([means], families.balanced_images(design))[:, 0])
    found = families.member_peaks(
        np.stack([counts[0], 0 * counts[1]], 1), design, draws=999, seed=int(rng.integers(9999))
    )
    return (float(found.p <= 0.05),)


def _likelihood(rng: np.random.Generator) -> tuple[float, float]:
    membership = random_rows(rng, 1000, 10, 5)
    alignment, memorized = simulate(membership, rng)
    areas = []
    for chosen in (memorized > 0, memorized == 0):
        found = families.attack(alignment, families.design(membership, scored=chosen)).lira
        areas.append(np.nan if found is None else found.auc)
    return areas[0], areas[1]


def _rate_covered(rng: np.random.Generator) -> tuple[float, ...]:
    truth = stats.norm.sf(stats.norm.isf(0.1) - 1)
    found = families.roc(rng.normal(1, 1, 300), rng.normal(size=300), fpr=(0.1,))
    return (float(found.low[0] <= truth <= found.high[0]),)


def _area_covered(sd: float, rng: np.random.Generator) -> tuple[float, ...]:
    found = families.roc(rng.normal(1, sd, 100), rng.normal(size=300))
    return (float(found.auc_low <= stats.norm.cdf(1 / np.sqrt(1 + sd**2)) <= found.auc_high),)


def _mean_area_covered(rng: np.random.Generator) -> tuple[float, ...]:
    """Half of the noise of an image is common to all trainings; trainings differ in how well members are told."""
    seen, image = np.arange(60) < 30, rng.normal(size=(60, 1))
    scores = np.sqrt(0.5) * image + np.sqrt(0.5) * rng.normal(size=(60, 4)) + seen[:, None] * rng.normal(1, 0.3, 4)
    each = [families.roc(column[seen], column[~seen]) for column in scores.T]
    values, lows, highs = (np.array([getattr(one, name) for one in each]) for name in ("auc", "auc_low", "auc_high"))
    low, high = interval_of_mean(values, lows, highs)
    return (float(low <= stats.norm.cdf(1 / np.sqrt(2 + 0.3**2)) <= high),)


def _epsilon(rng: np.random.Generator) -> tuple[float, ...]:
    right = int(rng.binomial(30, special.expit(1.0)))
    return (float(families.epsilon_lower_bound(60, 30, right) > 1),)
