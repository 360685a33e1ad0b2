"""Resampling beside formulas: the jackknife of an image's ratio, and the pigeonhole bootstrap of a mean."""

from __future__ import annotations

import numpy as np
from family_cases import World, mean_of, random_rows, simulate

from memkern import families


def jackknifed(row, seen):
    """Variance of one image's ratio, each encoder in and each encoder out left out in turn."""
    variance = 0.0
    for state in (0, 1):
        left = []
        for k in np.flatnonzero(seen == state):
            kept = np.arange(len(row)) != k
            inside, outside = row[kept & (seen == 1)].mean(), row[kept & (seen == 0)].mean()
            left.append((outside - inside) / (outside + inside))
        variance += (len(left) - 1) / len(left) * ((np.array(left) - np.mean(left)) ** 2).sum()
    return variance


def test_the_delta_method_of_the_ratio_agrees_with_the_jackknife():
    rng = np.random.default_rng(0)
    membership = random_rows(rng, 2000, 8, 4)
    alignment, _ = simulate(membership, rng, World(level=0.0))
    found = families.image_scores(alignment, families.design(membership), level="none")
    resampled = np.mean([jackknifed(row, seen) for row, seen in zip(alignment, membership, strict=True)])
    chance = 3 * np.sqrt(2 / 6 / 2000)  # a variance of 6 degrees of freedom, 2,000 times
    assert abs((found.se_ratio[0] ** 2).mean() / resampled - 1) < chance + 0.03  # the delta method's own error


def pigeonhole(alignment, membership, rng, draws):
    """Owen's bootstrap of LayerMem: images and K - 1 of the K encoders drawn independently, levels left in."""
    count, values = membership.shape[1], []
    for _ in range(draws):
        images = rng.integers(len(alignment), size=len(alignment))
        encoders = rng.choice(count, count - 1)
        if len(set(encoders)) == 1:
            continue  # no image has an encoder on both sides
        own, seen = alignment[images][:, encoders], membership[images][:, encoders]
        inside, outside = mean_of(own, seen, 1), mean_of(own, seen, 0)
        values.append(np.nanmean((outside - inside) / (outside + inside)))
    return np.std(values, ddof=1)


def test_the_pigeonhole_bootstrap_is_wider_than_the_error_and_the_error_than_the_truth():
    families_drawn, estimates, errors, resampled = 60, [], [], []
    for run in range(families_drawn):
        rng = np.random.default_rng(run)
        membership = random_rows(rng, 100, 6, 3)
        alignment, _ = simulate(membership, rng, World(share=0.0, level=0.02))
        found = families.layer_scores(alignment, families.design(membership), level="none", splits=1)
        estimates.append(found.layermem[0])
        errors.append(found.se[0])
        if run < 10:
            resampled.append(pigeonhole(alignment, membership, rng, 50))
    truth, chance = np.std(estimates, ddof=1), 3 / np.sqrt(2 * families_drawn)
    assert np.mean(errors) > truth * (1 - chance)
    assert np.mean(resampled) > np.mean(errors[:10]) * (1 - 3 / np.sqrt(2 * 50 * 10))
    assert np.mean(resampled) < 2.2 * truth * (1 + chance)
