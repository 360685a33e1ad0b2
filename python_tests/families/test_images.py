"""Scores of images against dense float64 regressions, hand-worked cases, and what must not matter."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from family_cases import World, mean_of, random_rows, regression, simulate, split_groups
from scipy import optimize, special, stats

from memkern import families
from memkern.errors import ArgumentTypeError, ArgumentValueError, NanError
from memkern.families.cells import Cells
from memkern.families.levels import level_model
from memkern.families.moderated import moderated

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def squeezed(variances, degrees):
    """Moderated variances and degrees, by the formulas of limma."""
    e = np.log(variances) - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = e.var(ddof=1) - special.polygamma(1, degrees / 2).mean()
    if excess <= 1e-8:
        pooled = (degrees * variances).sum() / degrees.sum()
        return np.full(len(e), pooled), np.full(len(e), degrees.sum())
    half = optimize.brentq(lambda y: special.polygamma(1, y) - excess, 1e-6, 1e9, xtol=1e-14, rtol=1e-14)
    prior = np.exp(e.mean() + special.digamma(half) - np.log(half))
    blended = (2 * half * prior + degrees * variances) / (2 * half + degrees)
    return blended, np.minimum(2 * half + degrees, degrees.sum())


def t_test(alignment, membership, scored, clusters=None, removed=True):
    """Difference, se, p, se of the ratio of the scored images, image by image."""
    encoders = alignment.shape[1]
    levels, covariance = regression(alignment, membership, clusters)
    if not removed:
        levels, covariance = 0 * levels, 0 * covariance
    after = alignment - levels
    squares, degrees = np.zeros(len(after)), np.zeros(len(after))
    for i, (row, seen) in enumerate(zip(after, membership, strict=True)):
        for cell in (row[seen == 1], row[seen == 0]):
            squares[i] += ((cell - cell.mean()) ** 2).sum() if len(cell) else 0
            degrees[i] += max(len(cell) - 1, 0)
    lost = degrees.sum() / (degrees.sum() - (encoders - 1)) if removed else 1.0
    able = scored & (degrees >= 2)
    variances, df = squeezed(lost * squares[able] / degrees[able], degrees[able])
    rows = []
    for row, seen, variance, d in zip(after[able], membership[able], variances, df, strict=True):
        out, into = (seen == 0) / (seen == 0).sum(), (seen == 1) / (seen == 1).sum()
        a, b = into @ row, out @ row
        se = np.sqrt(variance * (out @ out + into @ into) + (out - into) @ covariance @ (out - into))
        slope = 2 * (a * out - b * into) / (a + b) ** 2
        se_ratio = np.sqrt(variance * (slope @ slope) + slope @ covariance @ slope)
        rows.append((b - a, se, stats.t.sf((b - a) / se, d), se_ratio, (b - a) / (b + a)))
    full = np.full((5, len(after)), np.nan)
    full[:, able] = np.transpose(rows)
    return full


def varying(rng, images=60, encoders=6, unknown=0.0):
    membership = random_rows(rng, images, encoders, encoders // 2)
    membership[rng.random(membership.shape) < unknown] = -1
    alignment, _ = simulate(membership, rng, World(unequal=0.6))
    return alignment, membership


@pytest.mark.parametrize("unknown", [0.0, 0.25])
@pytest.mark.parametrize("level", ["auto", "none"])
@pytest.mark.parametrize("pictures", [None, np.arange(60) // 4], ids=["images", "pictures"])
def test_a_varying_design_is_the_dense_regression(unknown, level, pictures):
    alignment, membership = varying(np.random.default_rng(1), unknown=unknown)
    design = families.design(membership, pictures=pictures)
    found = families.image_scores(alignment, design, level=level)
    sslmem, se, p, se_ratio, ratio = t_test(alignment, membership, design.scored, pictures, level == "auto")
    speaks = ~np.isnan(se)
    assert speaks.sum() > 25
    assert found.method == "moderated t"
    np.testing.assert_allclose(found.sslmem[0, speaks], sslmem[speaks], **CLOSE)
    np.testing.assert_allclose(found.ratio[0, speaks], ratio[speaks], **CLOSE)
    for name, expected in (("se", se), ("p", p), ("se_ratio", se_ratio)):
        np.testing.assert_allclose(getattr(found, name)[0], expected, err_msg=name, **CLOSE)


@pytest.mark.parametrize(("n_f", "n_g"), [(2, 2), (1, 3), (4, 4)])
def test_a_fixed_split_with_controls_is_the_dense_regression(n_f, n_g):
    rng = np.random.default_rng(2)
    membership = families.membership_of_groups(split_groups(30, 40, 10), n_f=n_f, n_g=n_g)
    design = families.design(membership)
    alignment, _ = simulate(membership, rng, World(unequal=0.5), design.scored)
    found = families.image_scores(alignment, design)
    used = design.scored | design.control
    expected = t_test(alignment[used], membership[used], design.scored[used])
    for name, value in zip(("sslmem", "se", "p", "se_ratio", "ratio"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name)[0, :30], value[:30], err_msg=name, **CLOSE)
    assert found.method == "moderated t"
    scores = found.sslmem[0]
    by_hand = [(1 + (scores[30:70] >= each).sum()) / 41 for each in scores[:30]]
    np.testing.assert_allclose(found.p_check[:30], by_hand)
    assert np.isnan(found.p[0, 30:]).all()


def test_a_pair_has_conformal_p_alone_and_its_plain_difference():
    rng = np.random.default_rng(3)
    groups = [*split_groups(20, 50, 5), "unknown"]
    membership = families.membership_of_groups(groups)
    alignment = rng.normal(0.4, 0.03, (76, 2)).astype(np.float32)
    found = families.image_scores(alignment, families.design(membership, groups=groups))
    difference = alignment[:, 1].astype(np.float64) - alignment[:, 0]
    np.testing.assert_array_equal(found.sslmem[0, :75], difference[:75])
    by_hand = [(1 + (difference[20:70] >= each).sum()) / 51 for each in difference[:20]]
    np.testing.assert_array_equal(found.p[0, :20], by_hand)
    assert found.method == "conformal"
    assert "2 degrees of freedom" in found.reason
    assert not found.levels_removed
    for name in ("se", "se_ratio", "p_check"):
        assert np.isnan(getattr(found, name)).all(), name
    assert np.isnan(found.sslmem[0, 75])
    noise = difference[20:70].var(ddof=1) / difference[:20].var(ddof=1)
    assert found.reliability[0] == pytest.approx(np.clip(1 - noise, 0, 1))


def test_two_f_and_one_g_are_conformal_too():
    membership = families.membership_of_groups(split_groups(20, 50), n_f=2, n_g=1)
    found = families.image_scores(np.random.default_rng(0).normal(0.4, 0.03, (70, 3)), families.design(membership))
    assert found.method == "conformal"
    assert np.isfinite(found.p[0, :20]).all()


@pytest.mark.parametrize("n", [1, 3])
def test_a_fixed_split_without_control_has_no_p(n):
    membership = families.membership_of_groups(split_groups(20, 10), n_f=n, n_g=n)
    design = families.design(membership)
    alignment, _ = simulate(membership, np.random.default_rng(4), World(share=1.0))
    found = families.image_scores(alignment, design)
    assert found.method == "none"
    assert "no control group" in found.reason
    assert np.isnan(found.p).all()
    assert np.isnan(found.q).all()
    assert not found.memorized.any()
    verdict = families.verdict(found, design)
    assert verdict.n_memorized is None
    assert verdict.sentence.startswith("This audit cannot tell memorization from a tighter encoder")


def test_a_difference_by_hand():
    membership = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], np.int8)
    alignment = np.array([[1, 3, 6, 8], [5, 1, 3, 5], [4, 4, 2, 2], [0, 2, 4, 2]], float)
    found = families.image_scores(alignment, families.design(membership), level="none")
    np.testing.assert_array_equal(found.a_in[0], [2, 2, 2, 1])
    np.testing.assert_array_equal(found.a_out[0], [7, 5, 4, 3])
    np.testing.assert_array_equal(found.sslmem[0], [5, 3, 2, 2])
    np.testing.assert_allclose(found.ratio[0], [5 / 9, 3 / 7, 1 / 3, 1 / 2])


def test_permutation_checks_every_membership_of_an_image():
    from itertools import combinations

    rng = np.random.default_rng(5)
    alignment, membership = varying(rng, 12, 13)
    membership[0, 2] = membership[3, 4] = -1
    p = families.membership_permutation_p(alignment, membership, at_least=100)
    for i in (0, 3, 7):
        known = np.flatnonzero(membership[i] >= 0)
        own = alignment[i, membership[i] == 1].sum()
        sums = [alignment[i, list(each)].sum() for each in combinations(known, int((membership[i] == 1).sum()))]
        assert p[i] == pytest.approx(np.mean(np.array(sums) <= own + 1e-12))
    drawn = families.membership_permutation_p(alignment, membership, exact_to=10, at_least=100)
    np.testing.assert_allclose(drawn, p, atol=0.03)
    few = families.membership_permutation_p(alignment[:, :8], membership[:, :8])
    assert np.isnan(few).all()  # fewer than 1,000 memberships


def test_views_are_left_out_of_every_encoder_at_once():
    rng = np.random.default_rng(6)
    membership = random_rows(rng, 10, 4, 2)
    distances = rng.random((4, 10, 5, 5))
    distances = distances + distances.swapaxes(2, 3)
    distances[..., range(5), range(5)] = 0
    upper = np.triu_indices(5, 1)
    alignment = distances[..., upper[0], upper[1]].mean(2).T
    found = families.image_scores(
        alignment, families.design(membership), rows=[torch.from_numpy(each.sum(2)) for each in distances]
    )
    left = []
    for view in range(5):
        kept = [u for u in range(5) if u != view]
        pairs = np.triu_indices(4, 1)
        without = distances[:, :, kept][..., kept][..., pairs[0], pairs[1]].mean(2).T
        left.append(mean_of(without, membership, 0) - mean_of(without, membership, 1))
    expected = np.sqrt(4 / 5 * ((left - np.mean(left, 0)) ** 2).sum(0))
    np.testing.assert_allclose(found.se_views, expected, rtol=1e-10)
    both = np.nanmean(found.se[0] ** 2 + found.se_views**2) / found.sslmem[0].var(ddof=1)
    assert found.reliability[0] == pytest.approx(np.clip(1 - both, 0, 1))


def test_views_count_at_the_output_alone_and_for_scored_images():
    rng = np.random.default_rng(11)
    design = families.design(families.membership_of_groups(split_groups(20, 30), n_f=2, n_g=2))
    alignment, _ = simulate(design.membership, rng, World(share=1.0), design.scored)
    rows = list(rng.random((4, 50, 4)) / 50)
    found = families.image_scores([alignment, alignment], design, rows=rows)
    assert np.isfinite(found.se_views[:20]).all()
    assert np.isnan(found.se_views[20:]).all()
    assert found.reliability[0] == pytest.approx(1 - np.nanmean(found.se[0] ** 2) / found.sslmem[0, :20].var(ddof=1))
    assert found.reliability[1] < found.reliability[0]


def equal(one, other, images=slice(None)):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray) and field.name not in ("levels",):
            a = a[..., images] if a.shape[-1] == 60 else a
            np.testing.assert_allclose(a, b, err_msg=field.name, rtol=1e-9, atol=1e-11)


def test_the_order_of_images_and_of_encoders_does_not_matter():
    rng = np.random.default_rng(7)
    alignment, membership = varying(rng, unknown=0.1)
    alignment = np.stack([alignment, alignment + rng.normal(0, 0.02, alignment.shape)])
    pictures = np.arange(60) // 3
    found = families.image_scores(alignment, families.design(membership, pictures=pictures))
    images, encoders = rng.permutation(60), rng.permutation(6)
    design = families.design(membership[images][:, encoders], pictures=pictures[images])
    moved = families.image_scores(alignment[:, images][:, :, encoders], design)
    equal(found, moved, images)
    np.testing.assert_allclose(found.levels[:, encoders], moved.levels, atol=1e-13)


def test_unknown_entries_enter_nothing():
    rng = np.random.default_rng(8)
    alignment, membership = varying(rng, unknown=0.3)
    other = alignment.copy()
    other[membership == -1] = np.nan
    design = families.design(membership)
    equal(families.image_scores(alignment, design), families.image_scores(other, design))


def test_kinds_of_stacks_give_the_same(tmp_path):
    alignment, membership = varying(np.random.default_rng(9))
    design = families.design(membership)
    stack = np.stack([alignment, 2 * alignment]).astype(np.float32)
    np.save(tmp_path / "stack.npy", stack)
    found = families.image_scores(stack, design)
    mapped = np.load(tmp_path / "stack.npy", mmap_mode="r")
    for other in (torch.from_numpy(stack), list(stack), mapped):
        equal(found, families.image_scores(other, design))
    first = families.image_scores(stack, design, output=0)
    assert (first.memorized == (first.q[0] <= 0.05)).all()
    np.testing.assert_allclose(found.sslmem[1], 2 * found.sslmem[0], rtol=1e-12)


def test_a_collapsed_layer_has_no_p():
    alignment, membership = varying(np.random.default_rng(10))
    found = families.image_scores(np.stack([np.zeros_like(alignment), alignment]), families.design(membership))
    assert np.isnan(found.p[0]).all()
    assert (found.ratio[0] == 0).all()
    assert np.isfinite(found.p[1]).all()


def test_a_layer_that_is_flat_for_most_images_has_no_p():
    alignment, membership = varying(np.random.default_rng(12))
    flat = np.where(np.arange(60)[:, None] < 40, 0.5, alignment)
    found = families.image_scores([flat, alignment], families.design(membership), level="none")
    assert np.isnan([found.se[0], found.p[0]]).all()
    assert np.isfinite(found.se[1]).all()


def test_moderation_never_claims_more_degrees_than_there_are():
    degrees = np.array([2.0, 3.0, 4.0, 2.0, 0.0])
    for ratio in (1.0, *np.geomspace(2, 100, 40)):  # no spread beyond chance, then a little, then much
        variances = np.array([1.0, ratio, 1.0, 1 / ratio, 7.0])
        found = moderated(variances, degrees)
        blended, df = squeezed(variances[:4], degrees[:4])
        np.testing.assert_allclose(found.variances[:4], blended, rtol=1e-10)
        np.testing.assert_allclose(found.degrees[:4], df, rtol=1e-10)
        assert found.variances[4] == pytest.approx(found.prior_variance)  # no degrees of its own
    assert found.prior_degrees < 11


def test_encoders_are_connected_through_others():
    membership = np.full((3, 5), -1, np.int8)
    membership[0, [0, 4]] = membership[1, [4, 2]] = 1
    membership[2, [2, 3]] = 0
    assert level_model(Cells.of(membership)).components.tolist() == [0, 1, 0, 0, 0]


def test_levels_that_do_not_cancel_leave_no_p():
    """Two groups of encoders that never share a cell: their levels are known up to a constant in each."""
    membership = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]] * 8, np.int8)
    membership = np.concatenate([membership, [[1, -1, 0, -1]]]).astype(np.int8)  # columns of four kinds
    found = families.image_scores(np.random.default_rng(0).random((25, 4)), families.design(membership))
    assert found.method == "none"
    assert "levels" in found.reason
    assert np.isnan(found.p).all()
    assert np.isnan(found.levels).all()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda a, d: families.image_scores(a[:, :3], d), ArgumentValueError, "layer 0 of `alignment` to have shape"),
        (lambda a, d: families.image_scores(a[0], d), ArgumentValueError, r"\[N, K\] or \[L, N, K\]"),
        (lambda a, d: families.image_scores(a.astype(int), d), ArgumentTypeError, "floating-point"),
        (lambda a, d: families.image_scores("a", d), ArgumentTypeError, "an array"),
        (lambda a, d: families.image_scores([], d), ArgumentValueError, "at least one layer"),
        (lambda a, d: families.image_scores(a / 0, d), NanError, "for image 0 and encoder 0"),
        (lambda a, d: families.image_scores(a, d, level="out"), ArgumentValueError, "got 'out'"),
        (lambda a, d: families.image_scores(a, d, fdr=5), ArgumentValueError, "between 0 and 1"),
        (lambda a, d: families.image_scores(a, d, output=1), ArgumentValueError, "one of 1 layers"),
        (lambda a, d: families.image_scores(a, d, rows=[a]), ArgumentValueError, "for each of 6 encoders, got 1"),
        (lambda a, d: families.image_scores(a, d, rows=[a[0]] * 6), ArgumentValueError, r"`rows\[0\]`"),
    ],
)
def test_mistakes_say_what_to_do(call, kind, message):
    alignment, membership = varying(np.random.default_rng(0))
    with np.errstate(divide="ignore"), pytest.raises(kind, match=message):
        call(alignment, families.design(membership))
