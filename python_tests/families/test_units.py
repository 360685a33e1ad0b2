"""Peaks of units on members, by hand and against permutations written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from family_cases import random_rows, split_groups

from memkern import families
from memkern.errors import ArgumentValueError, DataError


def test_peaks_are_of_live_units_among_the_balanced_images():
    means = torch.tensor(
        # alive, tied, below zero, peak outside, signed (peak and rest cancel)
        [
            [0.1, 2.0, -0.1, 0.1, 1.0],
            [0.7, 2.0, -0.3, 0.2, -1.0],
            [0.2, 1.0, -0.4, 0.3, -1.0],
            [0.0, 0.0, 0.0, 9.0, 5.0],
        ]
    )
    images = np.array([True, True, True, False])
    counts = families.peak_counts([means, means[:, [0, 0, 3]]], images)
    assert counts.tolist() == [[0, 0], [1, 2], [1, 1], [0, 0]]
    with pytest.raises(ArgumentValueError, match=r"`means\[0\]` to have shape \[4, U\]"):
        families.peak_counts([means[:3]], images)


def peak_state(means, images):
    """What a pass over the balanced images keeps of each unit, image by image."""
    peak, index, rest, tied, count = None, None, None, None, 0
    for place in np.flatnonzero(images):
        own = means[place].double()
        count += 1
        if peak is None:
            peak, rest, tied = own, torch.zeros_like(own), torch.zeros(len(own), dtype=torch.bool)
            index = torch.full((len(own),), int(place))
            continue
        tied = torch.where(own == peak, True, torch.where(own > peak, False, tied))
        rest += torch.minimum(own, peak)
        index = torch.where(own > peak, int(place), index)
        peak = torch.maximum(own, peak)
    return {"peak": peak.float(), "index": index, "rest": rest, "count": torch.tensor(count), "tied": tied}


def test_states_of_peaks_give_the_counts_of_the_means():
    rng = np.random.default_rng(3)
    images = rng.random(30) < 0.7
    means = [torch.from_numpy(rng.normal(0.2, 1, (30, 50)).astype(np.float32)) for _ in range(3)]
    for each in means:
        each[:, :10] = (each[:, :10] * 2).round()  # ties
        each[:, 10:15] = -each[:, 10:15].abs()
        each[3, 20] = torch.nan
        each[:, 21:24] = -1.0  # peak and the mean of the others cancel
        each[np.flatnonzero(images)[5], 21:24] = 1.0
    states = [peak_state(each, images) for each in means]
    assert any(bool(each["tied"].any()) for each in states)
    expected = families.peak_counts(means, images)
    np.testing.assert_array_equal(families.peak_counts_of_states(states, 30), expected)
    by_part = [families.peak_counts_of_states(states, 30, units=part) for part in (slice(0, 17), slice(17, 50))]
    np.testing.assert_array_equal(by_part[0] + by_part[1], expected)
    assert expected.sum() > 60


def test_a_state_says_what_it_lacks():
    state = {"peak": [1.0], "index": [2], "rest": [0.5], "count": 3, "tied": [False]}
    good = {name: np.array(each) for name, each in state.items()}
    for change, message in (
        ({"index": np.array([3])}, "below 3 images, got 3"),
        ({"count": np.array(1)}, "at least 2 images, got 1"),
        ({"tied": np.array([False, False])}, r"of one shape \[U\], got \[\[1\], \[1\], \[1\], \[2\]\]"),
    ):
        with pytest.raises(ArgumentValueError, match=message):
            families.peak_counts_of_states([good | change], 3)
    del good["tied"]
    with pytest.raises(ArgumentValueError, match=r"`states\[0\]` to hold .* tied is missing"):
        families.peak_counts_of_states([good], 3)


def test_signed_units_and_means_over_encoders():
    signed = families.signed_units(np.array([1.0, 1.0, 0.0]), np.array([-0.9995, 0.5, 0.0]))
    assert signed.tolist() == [True, False, False]
    found = families.unit_means([np.array([1.0, 3.0]), np.array([4.0])])
    assert (found.mean, found.se, found.encoders.tolist()) == (3.0, 1.0, [2.0, 4.0])
    assert np.isnan(families.unit_means([np.ones(3)]).se)


def test_a_fixed_split_exchanges_candidates_and_independents():
    rng = np.random.default_rng(0)
    groups = split_groups(12, 5, 8)
    membership = families.membership_of_groups(groups, n_f=2, n_g=2)
    counts = rng.poisson(1.0, membership.shape)
    counts[:12, :2] += 1
    design = families.design(membership)
    strata = np.arange(25) % 3
    found = families.member_peaks(counts, design, strata=strata, draws=4000)
    images = np.flatnonzero([each != "extra" for each in groups])
    own, seen, stratum = counts[images], membership[images], strata[images]
    null = []
    for _ in range(4000):
        moved = np.arange(len(images))
        for each in range(3):
            moved[stratum == each] = rng.permutation(moved[stratum == each])
        null.append((own * seen[moved]).sum())
    share = (own * seen).sum()
    assert found.share == share / own.sum()
    assert found.expected == pytest.approx(np.mean(null) / own.sum(), abs=0.004)
    assert found.p == pytest.approx(np.mean(np.array(null) >= share), abs=0.03)
    with pytest.raises(DataError, match='group "independent"'):
        families.member_peaks(counts[:17], families.design(membership[:17]))


def test_a_varying_design_draws_each_row_anew():
    rng = np.random.default_rng(1)
    membership = random_rows(rng, 40, 5, 2)
    membership[:10] = random_rows(rng, 10, 5, 3)
    membership[39, 0] = -1
    counts = rng.poisson(0.4, membership.shape) + (rng.random(membership.shape) < 0.12) * (membership == 1)
    found = families.member_peaks(counts, families.design(membership), draws=6000)
    own, seen = counts[:39], membership[:39]
    assert {1, 2} <= set((own > 0).sum(1))
    null = [(own * rng.permuted(seen, axis=1)).sum() for _ in range(6000)]
    share = (own * seen).sum()
    assert found.n_units == own.sum()
    assert found.share == share / own.sum()
    assert found.expected == pytest.approx(np.mean(null) / own.sum(), abs=0.004)
    assert 0.02 < found.p < 0.9
    assert found.p == pytest.approx(np.mean(np.array(null) >= share), abs=0.03)


def test_a_fixed_split_exchanges_whole_pictures_where_they_were_drawn():
    rng = np.random.default_rng(4)
    picture = np.repeat(np.arange(12), 3)
    member = (np.arange(12) < 6)[picture]
    membership = families.membership_of_groups([["independent", "candidate"][each] for each in member.astype(int)])
    counts = np.stack([rng.poisson(0.3, 36) + 4 * (picture == 1), rng.poisson(0.3, 36)], 1)
    found = families.member_peaks(counts, families.design(membership, pictures=picture), draws=4000)
    own = np.array([(counts[picture == each] @ [1, -1]).sum() for each in range(12)])
    null = [own[rng.permutation(12)[:6]].sum() for _ in range(4000)]
    assert found.p == pytest.approx(np.mean(np.array(null) >= own[:6].sum()), abs=0.03)
    assert found.p > families.member_peaks(counts, families.design(membership), draws=4000).p + 0.05
    within = families.design(membership, pictures=np.arange(36) % 9)  # candidates and independents in every picture
    strata = np.arange(36) % 9
    by_picture = families.member_peaks(counts, within, draws=500)
    assert by_picture == families.member_peaks(counts, families.design(membership), strata=strata, draws=500)


def test_a_varying_design_draws_the_row_of_a_picture_anew():
    rng = np.random.default_rng(5)
    picture = np.arange(40) // 4
    rows = random_rows(rng, 10, 5, 2)
    membership = rows[picture]
    counts = rng.poisson(0.6, membership.shape) * (1 + (picture < 3))[:, None]
    found = families.member_peaks(counts, families.design(membership, pictures=picture), draws=6000)
    own = np.array([counts[picture == each].sum(0) for each in range(10)])
    null = [(own * rng.permuted(rows, axis=1)).sum() for _ in range(6000)]
    assert found.p == pytest.approx(np.mean(np.array(null) >= (own * rows).sum()), abs=0.03)
    assert found.expected == pytest.approx(np.mean(null) / own.sum(), abs=0.004)


def test_peaks_of_an_image_are_shares_of_live_units():
    counts = np.array([[2, 1, 0], [0, 1, 0], [2, 2, 0]])
    membership = np.array([[1, 1, 0], [1, 0, 0], [-1, 0, 1]], np.int8)
    inside, outside = families.peaks_of_images(counts, membership)
    np.testing.assert_allclose(inside, [(2 / 4 + 1 / 4) / 2, 0.0, np.nan])
    np.testing.assert_allclose(outside, [np.nan, 1 / 4, 2 / 4])


def test_no_units_no_share():
    design = families.design(random_rows(np.random.default_rng(0), 10, 4, 2))
    found = families.member_peaks(np.zeros((10, 4), np.int64), design)
    assert found.n_units == 0
    assert np.isnan([found.share, found.p]).all()
    with pytest.raises(ArgumentValueError, match="`counts`"):
        families.member_peaks(np.zeros((3, 4), np.int64), design)


@pytest.mark.parametrize("fixed", [True, False])
def test_units_that_peak_together_do_not_call_more(fixed):
    """Nothing is memorized: units share what they answer to, so they peak at few images."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(150):
        if fixed:
            membership = families.membership_of_groups(["candidate", "independent"] * 20)
        else:
            membership = random_rows(rng, 40, 4, 2)
        shared = rng.normal(size=(40, 6))
        means = [np.abs(shared @ rng.normal(size=(6, 64))) for _ in range(membership.shape[1])]
        design = families.design(membership)
        counts = families.peak_counts(means, families.balanced_images(design))
        hits.append(families.member_peaks(counts, design, draws=199).p <= 0.05)
    assert np.mean(hits) < 0.11  # 0.05 and three standard errors
