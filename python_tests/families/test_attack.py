"""The auditor's block: rates, intervals, likelihood ratios and bounds against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from family_cases import World, random_rows, regression, simulate, split_groups
from scipy import special, stats

from memkern import families
from memkern.errors import ArgumentValueError


def test_rates_by_hand():
    others = np.arange(20.0)  # at 10 % two of them may lie above the threshold, which is 17
    found = families.roc([17.0, 17.5, 18.0, 30.0, -1.0], others)
    assert found.tpr[0] == 3 / 5
    assert np.isnan([found.tpr[1:], found.low[1:], found.high[1:]]).all()
    assert found.low[0] <= found.tpr[0] <= found.high[0]
    wins = [(each > others).sum() + 0.5 * (each == others).sum() for each in (17.0, 17.5, 18.0, 30.0, -1.0)]
    assert found.auc == pytest.approx(sum(wins) / 100)
    with pytest.raises(ArgumentValueError, match="without NaN"):
        families.roc([np.nan], others)


def test_intervals_of_a_share_invert_the_binomial():
    low, high = families.clopper_pearson(3, 12, level=0.9)
    assert stats.binom.sf(2, 12, low) == pytest.approx(0.05)
    assert stats.binom.cdf(3, 12, high) == pytest.approx(0.05)
    assert families.clopper_pearson(12, 12)[1] == 1.0


@pytest.mark.parametrize(("auc", "members", "others"), [(0.8, 30, 200), (0.5, 12, 12), (1.0, 20, 50), (0.0, 8, 9)])
def test_ends_of_an_area_lie_its_own_standard_errors_away(auc, members, others):
    """The variance is Hanley and McNeil's, with each group's size replaced by the mean of both."""
    low, high = families.auc_interval(auc, members, others, level=0.9)
    assert 0 <= low <= auc <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        two_members, two_others = end / (2 - end) - end**2, 2 * end**2 / (1 + end) - end**2
        more = (members + others) / 2 - 1
        variance = (end * (1 - end) + more * (two_members + two_others)) / (members * others)
        assert abs(auc - end) == pytest.approx(stats.norm.ppf(0.95) * np.sqrt(variance))
    assert {low, high} & {0.0, 1.0} == {auc} & {0.0, 1.0}


def test_an_area_is_no_surer_than_its_scores_say():
    """By hand: the share of the others below each member, and of the members above each other image."""
    rng = np.random.default_rng(8)
    members, others = rng.normal(1, 3, 20).round(), rng.normal(0, 1, 30).round()  # ties
    wins = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    variance = wins.mean(1).var(ddof=1) / 20 + wins.mean(0).var(ddof=1) / 30
    found = families.roc(members, others)
    assert found.auc == pytest.approx(wins.mean())
    expected = families.auc_interval(wins.mean(), 20, 30, variance=variance)
    np.testing.assert_allclose([found.auc_low, found.auc_high], expected)
    narrow = families.auc_interval(wins.mean(), 20, 30)
    assert expected[0] < narrow[0] < narrow[1] < expected[1]
    assert families.auc_interval(wins.mean(), 20, 30, variance=1e-9) == narrow
    alone = families.roc([2.0], [1.0, 3.0])
    assert 0 <= alone.auc_low < alone.auc == 0.5 < alone.auc_high <= 1


def test_the_mean_attack_has_an_interval_over_images_and_trainings():
    rng = np.random.default_rng(9)
    membership = random_rows(rng, 120, 5, 2)
    alignment, _ = simulate(membership, rng)
    found = families.attack(alignment, families.design(membership)).alignment
    own = np.array([[each.auc, each.auc_low, each.auc_high] for each in found.encoders])
    between = stats.t.ppf(0.975, 4) * own[:, 0].std(ddof=1) / np.sqrt(5)
    assert found.auc == pytest.approx(own[:, 0].mean())
    assert found.auc - found.auc_low == pytest.approx(np.hypot(found.auc - own[:, 1].mean(), between))
    assert found.auc_high - found.auc == pytest.approx(np.hypot(own[:, 2].mean() - found.auc, between))
    rates = np.array([[each.tpr[0], each.low[0], each.high[0]] for each in found.encoders])
    between = stats.t.ppf(0.975, 4) * rates[:, 0].std(ddof=1) / np.sqrt(5)
    below = np.hypot(found.tpr[0] - rates[:, 1].mean(), between)
    assert found.low[0] == pytest.approx(max(found.tpr[0] - below, 0))
    assert found.tpr[0] <= found.high[0] <= 1
    assert np.isnan([found.low[2], found.high[2]]).all()  # 72 others allow no false positive at 0.1 %
    pair = families.membership_of_groups(split_groups(20, 40))
    of_pair = families.attack(rng.normal(0.4, 0.03, (60, 2)), families.design(pair)).alignment
    assert np.isfinite(of_pair.auc)
    assert np.isnan([of_pair.auc_low, of_pair.auc_high]).all()  # one encoder has members: the g saw no candidate


def test_an_interval_spends_half_of_its_error_on_the_threshold():
    rng = np.random.default_rng(6)
    members, others = rng.normal(1, 1, 40), rng.normal(size=100)
    found = families.roc(members, others, fpr=(0.1,))
    above = np.sort(others)[::-1]
    chance = np.cumsum([stats.binom.pmf(k, 100, 0.1) for k in range(101)])
    first, last = (int(np.argmax(chance >= share)) for share in (0.0125, 0.9875))
    surely, possibly = (members >= above[first - 1]).sum(), (members > above[last]).sum()
    assert stats.binom.sf(surely - 1, 40, found.low[0]) == pytest.approx(0.0125)
    assert stats.binom.cdf(possibly, 40, found.high[0]) == pytest.approx(0.0125)


def test_intervals_cover_the_true_rate():
    rng = np.random.default_rng(0)
    truth = stats.norm.sf(stats.norm.isf(0.1) - 1)
    draws = [families.roc(rng.normal(1, 1, 100), rng.normal(size=100), fpr=(0.1,)) for _ in range(200)]
    assert np.mean([each.low[0] <= truth <= each.high[0] for each in draws]) >= 0.95


@pytest.mark.parametrize("per_side", [2, 8])
def test_likelihood_ratios_leave_the_encoder_out(per_side):
    rng = np.random.default_rng(1)
    membership = random_rows(rng, 30, 9, 4)
    alignment, _ = simulate(membership, rng)
    found = families.lira(alignment, membership, per_side=per_side)
    k = 4
    rest = np.delete(np.arange(9), k)
    own, seen = alignment[:, rest], membership[:, rest]
    own = own - regression(own, seen)[0]
    cell = [np.where(seen == state, own, np.nan) for state in (0, 1)]
    inside, outside = np.nanmean(cell[1], 1), np.nanmean(cell[0], 1)
    target = alignment[:, k] - np.median(alignment[:, k] - (inside + outside) / 2)
    n_in, n_out = (seen == 1).sum(1), (seen == 0).sum(1)
    var_in, var_out = np.nanvar(cell[1], 1, ddof=1), np.nanvar(cell[0], 1, ddof=1)
    if per_side == 8:  # one variance, moderated: here every image has 6 degrees of freedom
        pooled = ((n_in - 1) * var_in + (n_out - 1) * var_out) / 6
        e = np.log(pooled)
        excess = e.var(ddof=1) - special.polygamma(1, 3)
        assert excess < 0  # no spread beyond chance: one variance for all
        var_in = var_out = np.full(30, pooled.mean())
    as_in = stats.norm.logpdf(target, inside, np.sqrt(var_in * (1 + 1 / n_in)))
    as_out = stats.norm.logpdf(target, outside, np.sqrt(var_out * (1 + 1 / n_out)))
    correction = np.log((1 + 1 / n_out) / (1 + 1 / n_in)) / 2  # a constant of the design, left out
    np.testing.assert_allclose(found[:, k], as_in - as_out - correction, rtol=1e-9, atol=1e-9)


def test_unknown_entries_enter_no_attack():
    rng = np.random.default_rng(10)
    membership = random_rows(rng, 120, 9, 4)
    membership[rng.random(membership.shape) < 0.2] = -1
    alignment, _ = simulate(membership, rng)
    other = np.where(membership == -1, np.nan, alignment)
    design = families.design(membership)
    for one, two in zip(*(vars(families.attack(each, design)).values() for each in (alignment, other)), strict=True):
        assert one.auc == two.auc
        np.testing.assert_array_equal(one.tpr, two.tpr)
        assert all(each.n_members + each.n_others < 120 for each in one.encoders)
    ratios = [families.lira(np.where(membership == -1, each, alignment), membership) for each in (0.0, 0.2)]
    assert np.isnan(ratios[0][membership == -1]).all()
    np.testing.assert_array_equal(*ratios)


def test_memorized_images_are_found_and_others_are_not():
    rng = np.random.default_rng(2)
    membership = random_rows(rng, 500, 10, 5)
    alignment, memorized = simulate(membership, rng)
    aucs = []
    for chosen in (memorized > 0.03, memorized == 0):
        design = families.design(membership, scored=chosen)
        found = families.attack(alignment, design)
        aucs.append((found.alignment.auc, found.sslmem.auc, found.lira.auc))
        assert len(found.lira.encoders) == 10
    assert aucs[0][0] < aucs[0][1] < aucs[0][2] + 0.02
    assert aucs[0][2] > 0.9
    np.testing.assert_allclose(aucs[1], 0.5, atol=0.04)


def test_sslmem_attacks_by_the_others_that_did_not_see_the_image():
    rng = np.random.default_rng(3)
    membership = random_rows(rng, 40, 5, 2)
    alignment, _ = simulate(membership, rng, World(level=0.0))
    found = families.attack(alignment, families.design(membership))
    assert found.lira is None
    k = 1
    rest = np.delete(np.arange(5), k)
    own, seen = alignment[:, rest], membership[:, rest]
    own = own - regression(own, seen)[0]
    score = np.nanmean(np.where(seen == 0, own, np.nan), 1) - alignment[:, k]
    expected = families.roc(score[membership[:, k] == 1], score[membership[:, k] == 0])
    assert found.sslmem.encoders[k].auc == pytest.approx(expected.auc)
    np.testing.assert_allclose(found.sslmem.encoders[k].high, expected.high)
    plain = families.roc(-alignment[membership[:, k] == 1, k], -alignment[membership[:, k] == 0, k])
    assert found.alignment.encoders[k].auc == plain.auc


@pytest.mark.parametrize(("extra", "others"), [(30, slice(20, 50)), (10, slice(30, 45))])
def test_a_split_is_attacked_by_candidates_against_extra(extra, others):
    rng = np.random.default_rng(4)
    membership = families.membership_of_groups(split_groups(20, extra, 15), n_f=2, n_g=1)
    alignment = rng.normal(0.4, 0.03, (35 + extra, 3))
    found = families.attack(alignment, families.design(membership))
    of_f = found.sslmem.encoders[1]
    score = alignment[:, 2] - alignment[:, 1]
    assert of_f.auc == families.roc(score[:20], score[others]).auc
    assert (of_f.n_members, of_f.n_others) == (20, others.stop - others.start)
    assert found.alignment.encoders[0].auc == families.roc(-alignment[:20, 0], -alignment[others, 0]).auc


def test_the_bound_of_pure_epsilon_inverts_the_binomial():
    bound = families.epsilon_lower_bound(100, 30, 25)
    assert stats.binom.sf(24, 30, special.expit(bound)) == pytest.approx(0.05, abs=1e-9)
    assert families.epsilon_lower_bound(100, 30, 15) == 0.0
    assert families.epsilon_lower_bound(100, 30, 25, delta=1e-4) < bound


def test_one_run_guesses_a_tenth_on_each_side():
    alignment = np.arange(40.0)
    member = alignment < 20
    member[1] = False
    found = families.one_run_epsilon(alignment, member)
    assert (found.right, found.guesses, found.images) == (7, 8, 40)
    assert found.epsilon == families.epsilon_lower_bound(40, 8, 7)
    with pytest.raises(ArgumentValueError, match="m >= 10"):
        families.one_run_epsilon(alignment[:9], member[:9])


def test_the_bound_rarely_exceeds_the_truth():
    rights = np.random.default_rng(5).binomial(30, special.expit(1.0), 400)
    over = {int(right): families.epsilon_lower_bound(60, 30, int(right)) > 1 for right in np.unique(rights)}
    assert np.mean([over[int(right)] for right in rights]) < 0.08


def test_the_attack_by_alignment_alone_is_that_of_all_three():
    rng = np.random.default_rng(2)
    membership = random_rows(rng, 120, 9, 4)
    alignment, _ = simulate(membership, rng)
    design = families.design(membership)
    alone, wanted = (each(alignment, design) for each in (families.alignment_attack, families.attack))
    assert repr(alone) == repr(wanted.alignment)
    assert alone.auc > 0.5
