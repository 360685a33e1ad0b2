"""Conformal p, q-values, group tests and the verdict, by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from family_cases import split_groups

from memkern import families
from memkern.errors import ArgumentValueError


def test_conformal_p_counts_ties_against_the_claim():
    p = families.conformal_p([3.0, 2.0, 1.5, 0.0, np.nan], [1.0, 2.0, 2.0])
    np.testing.assert_array_equal(p, [1 / 4, 3 / 4, 3 / 4, 1.0, np.nan])
    for control in ([], [1.0, np.nan]):
        with pytest.raises(ArgumentValueError, match="`control`"):
            families.conformal_p([1.0], control)


def test_q_values_are_the_least_rate_that_calls():
    p = np.array([0.04, np.nan, 0.01, 0.03, 0.9, 0.02])
    q = families.benjamini_hochberg(p)
    finite = p[~np.isnan(p)]
    for rate in np.linspace(0.01, 0.99, 99):
        passing = [k for k in range(1, 6) if np.sort(finite)[k - 1] <= k * rate / 5 + 1e-15]
        assert (q <= rate + 1e-12).sum() == max(passing, default=0)
    assert np.isnan(q[1])
    assert np.isnan(families.benjamini_hochberg([np.nan])).all()


def test_a_group_test_is_the_share_of_labellings():
    values, group = np.array([5.0, 1.0, 4.0, 0.0, 2.0, 6.0, 3.0]), np.array([1, 0, 1, 0, 0, 1, 0], bool)
    strata = np.array(list("aaaabbb"))
    every = [
        values[list(first)].sum() + values[second] for first in combinations(range(4), 2) for second in range(4, 7)
    ]
    found = families.group_test(values, group, strata=strata, draws=20000)
    assert found.total == 15
    assert found.expected == pytest.approx(np.mean(every))
    assert found.p == pytest.approx(np.mean(np.array(every) >= 15), abs=0.01)
    whole = [values[list(each)].sum() for each in combinations(range(7), 3)]
    assert families.group_test(values, group, draws=20000).p == pytest.approx(np.mean(np.array(whole) >= 15), abs=0.01)


def test_most_of_a_stratum_may_be_treated():
    values, group = np.arange(6.0), np.array([1, 1, 1, 1, 0, 1], bool)
    found = families.group_test(values, group, draws=20000)
    assert found.p == pytest.approx(5 / 6, abs=0.01)  # the one left out is 4: 0 to 4 give as much
    assert found.expected == pytest.approx(12.5)


def test_whole_pictures_are_exchanged_where_they_were_drawn():
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(60):
        pictures = np.arange(120) // 12
        values = rng.normal(size=10)[pictures] + 0.3 * rng.normal(size=120)
        group = rng.permutation(10)[pictures] < 5
        by_picture = families.group_test(values, group, pictures=pictures, draws=199)
        by_image = families.group_test(values, group, draws=199)
        sizes.append((by_picture.p <= 0.05, by_image.p <= 0.05))
    assert np.mean(sizes, 0)[0] < 0.12
    assert np.mean(sizes, 0)[1] > 0.25
    with pytest.raises(ArgumentValueError, match="give the pictures as `strata`"):
        families.group_test(values, np.arange(120) % 2 == 0, pictures=pictures)


def test_chunks_do_not_change_the_draws(monkeypatch):
    values, group = np.random.default_rng(0).normal(size=50), np.arange(50) < 20
    whole = families.group_test(values, group, draws=500)
    monkeypatch.setattr("memkern.families.p_values.ENTRIES_A_CHUNK", 50 * 7)
    assert families.group_test(values, group, draws=500) == whole


def test_a_verdict_counts_images_and_says_when_it_cannot_name_one():
    rng = np.random.default_rng(1)
    design = families.design(families.membership_of_groups(split_groups(30, 100)))
    nothing = rng.normal(0.4, 0.02, (130, 2))
    silent = families.verdict(families.image_scores(nothing, design), design)
    assert silent.n_memorized == 0
    assert "too few control images to name single ones" in silent.reason
    assert "at least 6 of 30" in silent.sentence
    assert "599 controls" in silent.sentence
    nothing[:10, 0] -= 0.3
    clear = families.verdict(families.image_scores(nothing, design), design)
    assert clear.sentence.startswith("10 of 30 candidates are memorized at a false-discovery rate of 5%")
    assert (clear.n_memorized, clear.n_scored, clear.n_check, clear.reason) == (10, 30, None, "")


@pytest.mark.parametrize(("scored", "controls", "together"), [(30, 100, 6), (300, 100, 60), (30, 1000, 1)])
def test_how_many_must_lie_above_all_controls(scored, controls, together):
    assert families.images_above_all_controls(scored, controls) == together
    p = np.where(np.arange(scored) < together, 1 / (controls + 1), 1.0)
    assert (families.benjamini_hochberg(p) <= 0.05).sum() == together
    assert families.images_above_all_controls(scored, families.controls_to_name_one(scored)) == 1
    assert families.images_above_all_controls(scored, families.controls_to_name_one(scored) - 1) == 2
