"""LayerMem over trainings against estimates made anew without each encoder, and cross-fitted groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from family_cases import World, mean_of, random_rows, regression, simulate, split_groups
from scipy import stats

import memkern
from memkern import families
from memkern.scores import sslmem_score

CLOSE = {"rtol": 1e-10, "atol": 1e-13}


def ratios(alignment, membership):
    out, inside = mean_of(alignment, membership, 0), mean_of(alignment, membership, 1)
    return np.where(out + inside >= 0, (out - inside) / (out + inside), np.nan)


def without_levels(alignment, membership, levels=True):
    return alignment - regression(alignment, membership)[0] if levels else alignment


def errors(estimate, effects, strata, pictures):
    """The five numbers of a two-way clustered mean: `estimate(encoders)`, `effects` the [N, K] parts of the mean."""
    encoders = np.arange(sum(map(len, strata)))
    var_encoders = 0.0
    for stratum in strata:
        left = np.array([estimate(np.delete(encoders, k)) for k in stratum])
        var_encoders += (len(stratum) - 1) / len(stratum) * ((left - left.mean()) ** 2).sum()
    centred, cells, degrees = effects

    def by(values):
        return np.array([values[pictures == each].sum(0) for each in np.unique(pictures)])

    var_images = degrees / (degrees - 1) * (by(centred) ** 2).sum()
    var_both = (by(cells) ** 2).sum()
    df = (var_encoders + var_images) ** 2 / (
        var_encoders**2 / (len(encoders) - len(strata)) + var_images**2 / (degrees - 1)
    )
    se = np.sqrt(max(var_encoders, var_images, var_encoders + var_images - var_both))
    return se, np.sqrt(var_images), np.sqrt(var_encoders), df


def parts(alignment, membership, ratio, chosen, sign=1):
    """What each image, and each (image, encoder) cell, adds to the mean over the chosen images."""
    used = chosen & ~np.isnan(ratio)
    centred, cells = np.zeros(len(ratio)), np.zeros(alignment.shape)
    centred[used] = sign * (ratio[used] - ratio[used].mean()) / used.sum()
    for i in np.flatnonzero(used):
        seen, row = membership[i], alignment[i]
        total = row[seen == 1].mean() + row[seen == 0].mean()
        for state, slope in ((0, row[seen == 1].mean()), (1, -row[seen == 0].mean())):
            n = (seen == state).sum()
            if n > 1:
                residual = (row - row[seen == state].mean())[seen == state]
                cells[i, seen == state] = sign * 2 * slope / total**2 / n * residual * np.sqrt(n / (n - 1)) / used.sum()
    return centred, cells


@pytest.mark.parametrize("level", ["auto", "none"])
@pytest.mark.parametrize("pictures", [np.arange(40), np.arange(40) // 4], ids=["images", "pictures"])
@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_a_varying_design(level, pictures, unknown):
    rng = np.random.default_rng(1)
    membership = random_rows(rng, 40, 6, 3)
    membership[rng.random(membership.shape) < unknown] = -1
    alignment, _ = simulate(membership, rng)
    design = families.design(membership, pictures=pictures)
    found = families.layer_scores(alignment, design, level=level)

    def estimate(kept):
        own, seen = alignment[:, kept], membership[:, kept]
        return np.nanmean(ratios(without_levels(own, seen, level == "auto"), seen)[design.scored])

    after = without_levels(alignment, membership, level == "auto")
    ratio = ratios(after, membership)
    n_pictures = len(np.unique(pictures[design.scored & ~np.isnan(ratio)]))
    effects = (*parts(after, membership, ratio, design.scored), n_pictures)
    expected = errors(estimate, effects, [np.arange(6)], pictures)
    for name, value in zip(("se", "se_images", "se_encoders", "df"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name)[0], value, err_msg=name, **CLOSE)
    np.testing.assert_allclose(found.layermem[0], estimate(np.arange(6)), **CLOSE)
    assert found.excess[0] == found.layermem[0]
    reach = stats.t.ppf(0.975, expected[3]) * expected[0]
    np.testing.assert_allclose([found.low[0], found.high[0]], found.excess[0] + np.array([-reach, reach]), **CLOSE)


@pytest.mark.parametrize(("n_f", "n_g"), [(2, 2), (3, 2), (4, 4)])
def test_a_fixed_split_with_control(n_f, n_g):
    rng = np.random.default_rng(2)
    membership = families.membership_of_groups(split_groups(40, 30, 6), n_f=n_f, n_g=n_g)
    pictures = np.arange(76) % 25
    design = families.design(membership, pictures=pictures)
    alignment, _ = simulate(membership, rng, World(level=0.02), design.scored)
    role = np.array([1] * n_f + [0] * n_g)
    as_candidates = np.broadcast_to(role, membership.shape)
    found = families.layer_scores(alignment, design)

    def estimate(kept):
        ratio = ratios(alignment[:, kept], as_candidates[:, kept])
        return ratio[:40].mean() - ratio[40:70].mean()

    ratio = ratios(alignment, as_candidates)
    both = [parts(alignment, as_candidates, ratio, each, s) for each, s in ((design.scored, 1), (design.control, -1))]
    effects = (both[0][0] + both[1][0], both[0][1] + both[1][1], 25)
    expected = errors(estimate, effects, [np.flatnonzero(role == 1), np.flatnonzero(role == 0)], pictures)
    for name, value in zip(("se", "se_images", "se_encoders", "df"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name)[0], value, err_msg=name, **CLOSE)
    np.testing.assert_allclose(found.excess[0], estimate(np.arange(n_f + n_g)), **CLOSE)
    np.testing.assert_allclose(found.layermem[0] - found.control[0], found.excess[0], **CLOSE)


def differences(one, other):
    return one[0] - other[0], one[1] - other[1]


@pytest.mark.parametrize("pictures", [np.arange(40), np.arange(40) // 4], ids=["images", "pictures"])
def test_a_delta_of_a_varying_design(pictures):
    rng = np.random.default_rng(11)
    membership = random_rows(rng, 40, 6, 3)
    first, _ = simulate(membership, rng)
    second = 0.7 * first + 0.1 + rng.normal(0, 0.01, first.shape)
    found = families.layer_scores(np.stack([first, second]), families.design(membership, pictures=pictures))

    def estimate(kept, layers=(first, second)):
        own = [without_levels(each[:, kept], membership[:, kept]) for each in layers]
        before, after = (np.nanmean(ratios(each, membership[:, kept])) for each in own)
        return after - before

    everyone = np.ones(40, bool)
    both = []
    for layer in (second, first):
        after = without_levels(layer, membership)
        both.append(parts(after, membership, ratios(after, membership), everyone))
    effects = (*differences(*both), len(np.unique(pictures)))
    se, _, _, df = errors(estimate, effects, [np.arange(6)], pictures)
    np.testing.assert_allclose(found.se_delta, [np.nan, se], **CLOSE)
    reach = stats.t.ppf(0.975, df) * se
    delta = estimate(np.arange(6))
    np.testing.assert_allclose([found.low_delta[1], found.high_delta[1]], [delta - reach, delta + reach], **CLOSE)
    np.testing.assert_allclose(found.delta_excess[1], delta, **CLOSE)
    assert found.se_delta[1] < found.se[1]  # layers share most of their errors


def test_a_delta_of_a_fixed_split_and_of_a_pair():
    rng = np.random.default_rng(12)
    membership = families.membership_of_groups(split_groups(40, 30), n_f=3, n_g=2)
    design = families.design(membership)
    role = np.array([1, 1, 1, 0, 0])
    as_candidates = np.broadcast_to(role, membership.shape)
    layers = [simulate(membership, rng, World(level=0.02), design.scored)[0] for _ in range(2)]
    found = families.layer_scores(layers, design)

    def excess(layer, kept):
        ratio = ratios(layer[:, kept], as_candidates[:, kept])
        return ratio[:40].mean() - ratio[40:].mean()

    def estimate(kept):
        return excess(layers[1], kept) - excess(layers[0], kept)

    both = []
    for layer in reversed(layers):
        ratio = ratios(layer, as_candidates)
        sides = [
            parts(layer, as_candidates, ratio, each, sign) for each, sign in ((design.scored, 1), (design.control, -1))
        ]
        both.append((sides[0][0] + sides[1][0], sides[0][1] + sides[1][1]))
    effects = (*differences(*both), 40)
    se, _, _, df = errors(estimate, effects, [np.arange(3), np.array([3, 4])], np.arange(70))
    reach = stats.t.ppf(0.975, df) * se
    expected = [se, estimate(np.arange(5)) - reach, estimate(np.arange(5)) + reach]
    np.testing.assert_allclose([found.se_delta[1], found.low_delta[1], found.high_delta[1]], expected, **CLOSE)
    pair = families.layer_scores([each[:, 2:4] for each in layers], families.design(membership[:, 2:4]))
    assert np.isnan([pair.se_delta, pair.low_delta, pair.high_delta]).all()
    assert np.isfinite(pair.delta_excess[1])


def test_the_range_form_is_that_of_the_scripts():
    rng = np.random.default_rng(13)
    membership = families.membership_of_groups(split_groups(30, 30), n_f=2, n_g=3)
    alignment, _ = simulate(membership, rng)
    layers = np.stack([alignment, np.full_like(alignment, 0.25), 0.25 + 0.5 * (1 - membership)])
    found = families.layer_scores(layers, families.design(membership), output=0)
    means = [torch.from_numpy(layers[:, :30, own].mean(2)) for own in (slice(2), slice(2, 5))]
    expected = [sslmem_score(f, g, "range").mean().item() for f, g in zip(*means, strict=True)]
    assert np.isnan(expected[2])  # every difference is the same, and not 0
    np.testing.assert_allclose(found.ranged, expected, **CLOSE)
    assert found.ranged[1] == 0


def test_a_pair_has_errors_of_images_alone():
    rng = np.random.default_rng(3)
    membership = families.membership_of_groups(split_groups(30, 30))
    alignment = rng.normal(0.4, 0.03, (3, 60, 2))
    found = families.layer_scores(alignment, families.design(membership))
    assert np.isnan([found.se, found.se_encoders, found.low, found.high]).all()
    assert np.isfinite(found.se_images).all()
    assert np.isnan([found.top, found.top_control]).all()
    ratio = (alignment[..., 1] - alignment[..., 0]) / alignment.sum(2)
    np.testing.assert_allclose(found.layermem, ratio[:, :30].mean(1), **CLOSE)
    spread = np.sqrt(ratio[:, :30].var(1) / 30 + ratio[:, 30:].var(1) / 30)
    np.testing.assert_allclose(found.se_images, spread * np.sqrt(30 / 29), **CLOSE)
    np.testing.assert_allclose(found.delta, memkern.delta_layermem(found.layermem), **CLOSE)
    np.testing.assert_allclose(found.delta_excess[1:], np.diff(found.excess), **CLOSE)


def test_without_control_a_fixed_split_has_no_excess():
    membership = families.membership_of_groups(split_groups(30, 3), n_f=2, n_g=2)
    alignment, _ = simulate(membership, np.random.default_rng(4))
    found = families.layer_scores(alignment, families.design(membership))
    assert np.isnan([found.excess, found.control]).all()
    assert found.about == "layermem"
    assert found.low[0] < found.layermem[0] < found.high[0]

    def estimate(kept):
        return ratios(alignment[:, kept], membership[:, kept])[:30].mean()

    assert found.layermem[0] == pytest.approx(estimate(np.arange(4)))
    after = alignment[:30] - alignment[:30].mean(0)  # levels within f and within g
    after += np.repeat([alignment[:30, :2].mean(), alignment[:30, 2:].mean()], 2)
    ratio = ratios(after, membership[:30])
    effects = (*parts(after, membership[:30], ratio, np.ones(30, bool)), 30)
    expected = errors(estimate, effects, [np.array([0, 1]), np.array([2, 3])], np.arange(30))
    np.testing.assert_allclose([found.se[0], found.se_images[0], found.se_encoders[0]], expected[:3], **CLOSE)


def test_negative_sums_after_levels_are_in_no_mean():
    membership = np.tile(random_rows(np.random.default_rng(0), 6, 4, 2), (5, 1))
    alignment = np.full((30, 4), 0.5) + np.random.default_rng(1).normal(0, 0.01, (30, 4)) + [3, -1, -1, -1]
    alignment[0] = [3.0, -1.5, -1.5, -1.5]  # below zero once the levels are gone
    design = families.design(membership)
    ratio = families.image_scores(alignment, design).ratio[0]
    assert np.isnan(ratio[0])
    found = families.layer_scores(alignment, design)
    np.testing.assert_allclose(found.layermem[0], ratio[1:].mean(), rtol=1e-10)


def test_halves_of_the_encoders_rank_and_measure():
    rng = np.random.default_rng(5)
    membership = random_rows(rng, 50, 6, 2)
    alignment, _ = simulate(membership, rng)
    stack = np.stack([alignment + rng.normal(0, 0.01, alignment.shape), alignment])
    found = families.layer_scores(stack, families.design(membership), level="none", splits=3, seed=7)
    generator, pairs = np.random.default_rng(7), []
    for order in [generator.permutation(6) for _ in range(3)]:
        for rank, measure in ((order[:3], order[3:]), (order[3:], order[:3])):
            score = mean_of(alignment[:, rank], membership[:, rank], 0)
            score = score - mean_of(alignment[:, rank], membership[:, rank], 1)
            value = ratios(stack[0][:, measure], membership[:, measure])
            able = np.flatnonzero(~np.isnan(score) & ~np.isnan(value))
            n = min(25, len(able) // 2)
            best = able[np.argsort(-score[able], kind="stable")]
            pairs.append((value[best[:n]].mean(), value[best[-n:]].mean()))
    np.testing.assert_allclose([found.top[0], found.least[0]], np.mean(pairs, 0), **CLOSE)
    assert found.n_top == 25


def test_halves_of_the_views_rank_and_measure_a_pair():
    rng = np.random.default_rng(6)
    even, odd = rng.normal(0.4, 0.03, (2, 60, 2)), rng.normal(0.4, 0.03, (2, 60, 2))
    membership = families.membership_of_groups(split_groups(30, 30))
    found = families.layer_scores((even + odd) / 2, families.design(membership), halves=(even, odd))
    for top, least, group in (
        (found.top, found.least, slice(30)),
        (found.top_control, found.least_control, slice(30, 60)),
    ):
        expected = []
        for rank, measure in ((even, odd), (odd, even)):
            order = np.argsort(-(rank[1, group, 1] - rank[1, group, 0]), kind="stable")
            ratio = (measure[..., 1] - measure[..., 0])[:, group] / measure.sum(2)[:, group]
            expected.append((ratio[:, order[:15]].mean(1), ratio[:, order[15:]].mean(1)))
        np.testing.assert_allclose([top, least], np.mean(expected, 0), **CLOSE)
    without = families.design(membership, control="none")
    assert np.isnan(families.layer_scores(even, without, halves=(even, odd)).top).all()


def test_the_order_of_images_and_of_encoders_does_not_matter():
    rng = np.random.default_rng(8)
    membership = random_rows(rng, 40, 6, 3)
    alignment, _ = simulate(membership, rng)
    pictures = np.arange(40) // 3
    images, encoders = rng.permutation(40), rng.permutation(6)
    one = families.layer_scores(alignment, families.design(membership, pictures=pictures))
    moved = families.design(membership[images][:, encoders], pictures=pictures[images])
    other = families.layer_scores(alignment[images][:, encoders], moved)
    for name in ("layermem", "se", "se_images", "se_encoders", "df", "low", "high"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, err_msg=name)
