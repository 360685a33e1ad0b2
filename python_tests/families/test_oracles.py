"""Every function is tested here or beside this file; what its own page leaves open, against float64 written out."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from family_cases import World, random_rows, regression, simulate, split_groups
from scipy import optimize, special, stats

from memkern import families
from memkern.errors import DataError
from memkern.families.roc import interval_of_mean

TESTS = Path(__file__).parent


def test_every_function_is_called_by_a_test():
    called = "\n".join(path.read_text() for path in TESTS.glob("test_*.py"))
    functions = [name for name in families.__all__ if inspect.isfunction(getattr(families, name))]
    assert len(functions) > 25
    assert [name for name in functions if f"families.{name}" not in called] == []


def moderated_by_hand(variances, degrees):
    """Variances drawn towards a prior (its degrees by bisection); one for all without spread beyond chance."""
    logs = np.log(variances) - special.digamma(degrees / 2) + np.log(degrees / 2)
    spread = logs.var(ddof=1) - special.polygamma(1, degrees / 2).mean()
    if spread <= 1e-8:
        return np.full(len(logs), (degrees * variances).sum() / degrees.sum())
    half = optimize.brentq(lambda y: special.polygamma(1, y) - spread, 1e-6, 1e9, xtol=1e-14, rtol=1e-14)
    prior = np.exp(logs.mean() + special.digamma(half) - np.log(half))
    return (2 * half * prior + degrees * variances) / (2 * half + degrees)


@pytest.mark.parametrize("per_side", [4, 8])
def test_likelihood_ratios_with_unknown_entries_and_unequal_noise(per_side):
    rng = np.random.default_rng(11)
    membership = random_rows(rng, 60, 10, 5)
    membership[rng.random(membership.shape) < 0.15] = -1
    alignment, _ = simulate(membership, rng, World(unequal=0.9))
    found = families.lira(alignment, membership, per_side=per_side)
    for k in (0, 7):
        rest = np.delete(np.arange(10), k)
        own, seen = alignment[:, rest], membership[:, rest]
        after = own - regression(np.where(seen < 0, 0.0, own), seen)[0]
        sides = [[row[states == state] for row, states in zip(after, seen, strict=True)] for state in (1, 0)]
        count = np.array([[len(cell) for cell in side] for side in sides])
        able = (count > 0).all(0) & (membership[:, k] >= 0)
        mean = np.array([[cell.mean() if len(cell) else np.nan for cell in side] for side in sides])
        squares = np.array([[((cell - cell.mean()) ** 2).sum() if len(cell) else 0 for cell in side] for side in sides])
        degrees = np.maximum(count - 1, 0).sum(0)
        assert degrees.min() >= 1
        shared = moderated_by_hand(squares.sum(0) / degrees, degrees)
        assert np.ptp(shared) > 0, "a prior that is not infinite"
        variances = np.where(count.min(0) >= per_side, squares / np.maximum(count - 1, 1), shared)
        assert (variances[0] == shared).any()
        assert (variances[0] != shared).any() == (per_side == 4)
        target = alignment[:, k] - np.median((alignment[:, k] - mean.mean(0))[able])
        away = (target - mean) ** 2 / (variances * (1 + 1 / np.maximum(count, 1)))
        expected = (away[1] - away[0] + np.log(variances[1] / variances[0])) / 2
        np.testing.assert_allclose(found[able, k], expected[able], rtol=1e-9, atol=1e-9)
        assert np.isnan(found[~able, k]).all()


def test_a_bound_with_delta_solves_the_inequality_of_its_formula():
    images, guesses, right, delta = 200, 40, 34, 2e-4
    bound = families.epsilon_lower_bound(images, guesses, right, delta=delta)
    chance = special.expit(bound)
    at_least = [sum(stats.binom.pmf(j, guesses, chance) for j in range(v, guesses + 1)) for v in range(guesses + 1)]
    most = max((at_least[right - i] - at_least[right]) / i for i in range(1, right + 1))
    assert at_least[right] + 2 * images * delta * most == pytest.approx(0.05, abs=1e-9)
    assert 0 < bound < families.epsilon_lower_bound(images, guesses, right)


def test_levels_reliability_and_the_encoders_that_it_takes():
    rng = np.random.default_rng(12)
    membership = random_rows(rng, 50, 6, 3)
    alignment, _ = simulate(membership, rng)
    found = families.image_scores(alignment, families.design(membership))
    levels = regression(alignment, membership)[0]
    np.testing.assert_allclose(found.levels[0], levels, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.sd_levels[0], levels.std(ddof=1), rtol=1e-10)
    reliability = 1 - (found.se[0] ** 2).mean() / found.sslmem[0].var(ddof=1)
    assert 0.1 < reliability < 0.95
    np.testing.assert_allclose(found.reliability[0], reliability, rtol=1e-10)
    # Spearman and Brown: m times as many encoders have the reliability m r / (1 + (m - 1) r)
    more = found.encoders_for_08[0] / 6
    assert more * reliability / (1 + (more - 1) * reliability) == pytest.approx(0.8, rel=1e-10)
    split = families.membership_of_groups(split_groups(30, 40), n_f=3, n_g=3)
    design = families.design(split)
    alignment, _ = simulate(split, rng, where=design.scored)
    np.testing.assert_allclose(
        families.image_scores(alignment, design).levels[0], regression(alignment, split)[0], rtol=1e-9, atol=1e-11
    )


def test_an_interval_of_a_mean_is_by_the_t_of_its_trainings():
    values = np.array([[0.6, 0.2], [0.7, 0.1], [0.8, 0.0]])
    low, high = interval_of_mean(values, values - 0.05, values + 0.15)
    between = stats.t.interval(0.95, 2, scale=stats.sem(values))[1]
    np.testing.assert_allclose(low, np.maximum(values.mean(0) - np.hypot(0.05, between), 0))
    np.testing.assert_allclose(high, np.minimum(values.mean(0) + np.hypot(0.15, between), 1))


def test_duplicates_differ_by_a_tenth_of_the_variance_of_the_median_pair():
    rng = np.random.default_rng(13)
    membership = random_rows(rng, 400, 5, 2)
    design = families.design(membership, encoders=list("abcde"))
    alignment, _ = simulate(membership, rng, World(share=0.0))

    def spreads(values):
        pairs = {}
        for j, k in zip(*np.triu_indices(5, 1), strict=True):
            same = membership[:, j] == membership[:, k]
            pairs["abcde"[j] + "abcde"[k]] = (values[same, j] - values[same, k]).var()
        return pairs

    for noise, refused in ((0.008, True), (0.016, False)):
        values = alignment.copy()
        values[:, 3] = values[:, 1] + 0.02 + noise * rng.normal(size=400)
        found = spreads(values)
        assert (found["bd"] <= 0.1 * np.median(list(found.values()))) == refused
        assert families.duplicate_encoders(values, design) == ([("b", "d")] if refused else [])
        if refused:
            with pytest.raises(DataError, match=r"Encoders 'b' and 'd' differ too little .*: leave one of them out$"):
                families.refuse_duplicates(values, design)
        else:
            families.refuse_duplicates(values, design)
