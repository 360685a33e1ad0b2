"""Scores over trainings: every column of the tables against `memkern.families`, called on the alignments themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from trainings import FOUR, LABELS, LAYERS, ROLES, N, U, World, measured, pair, pair_of_two, varying

from memkern import UnitMem, families
from memkern.audit.measure.family_columns import leaks
from memkern.audit.measure.tables import tables
from memkern.errors import DataError


def same(column: Any, wanted: Any) -> None:
    given = [math.nan if value is None else value for value in np.asarray(column, dtype=object).tolist()]
    np.testing.assert_array_equal(np.array(given, dtype=np.float64), np.asarray(wanted, dtype=np.float64))


def test_a_fixed_split_of_four() -> None:
    world, given = pair_of_two()
    made = tables(given)
    design = families.design(world.membership)
    images = families.image_scores(world.stack, design, rows=list(world.rows))
    layers = families.layer_scores(world.stack, design)
    samples = made.samples
    for name, values in {
        "se": images.se[1], "se_ratio": images.se_ratio[1], "se_views": images.se_views, "p": images.p[1],
        "p_check": images.p_check, "q": images.q[1], "sslmem_ratio": images.ratio[1],
        "a_in/conv": images.a_in[0], "a_out/output": images.a_out[1],
        "n_in": (world.membership == 1).sum(1), "n_out": (world.membership == 0).sum(1),
    }.items():  # fmt: skip
        same(samples[name], values)
    scored = np.arange(N) < 40
    assert [value is None for value in samples["memorized"]] == (~scored).tolist()
    assert samples["memorized"][:40] == images.memorized[:40].tolist()
    assert all(samples["memorized"][:40:3]), "every third candidate is memorized"
    by_role = [
        torch.from_numpy(world.alignment[each].astype(np.float64).mean(0).astype(np.float32))
        for each in ([0, 1], [2, 3])
    ]
    assert torch.equal(samples["alignment_f/conv"], by_role[0][0])
    assert torch.equal(samples["sslmem"], by_role[1][1] - by_role[0][1])
    table = made.layers
    for name, values in {
        "layermem_excess": layers.excess, "layermem_control": layers.control, "delta_excess": layers.delta_excess,
        "se": layers.se, "se_images": layers.se_images, "se_encoders": layers.se_encoders, "low": layers.low,
        "high": layers.high, "layermem_top50": layers.top, "layermem_least50": layers.least,
        "layermem_top50_control": layers.top_control, "layermem_least50_control": layers.least_control,
        "reliability": images.reliability, "level_sd": images.sd_levels, "n_memorized": (images.q <= 0.05).sum(1),
    }.items():  # fmt: skip
        same(table[name], values)
    assert table["n_top"] == [20, 20]
    ratio = (by_role[1] - by_role[0]) / (by_role[1] + by_role[0])
    assert table["layermem"] == [float(each.double().mean()) for each in ratio]
    assert table["layermem_candidates"] == [float(each[:40].double().mean()) for each in ratio]
    said = made.significance
    assert said is not None
    assert (said.design, said.control, said.n_scored, said.n_control) == ("fixed", "extra", 40, 50)
    assert (said.method, said.check, said.levels_removed, said.unscored_nan) == ("moderated t", "conformal", True, 0)
    assert said.n_memorized == sum(samples["memorized"][:40]) == table["n_memorized"][1]
    assert said.verdict == families.verdict(images, design).sentence
    assert said.reliability == images.reliability[1]
    assert (said.fdr, said.reason) == (0.05, "")


def test_peaks_of_members() -> None:
    world, given = pair_of_two(seed=3)
    made = tables(given)
    design = families.design(world.membership)
    balanced = families.balanced_images(design)
    for place, own in enumerate((slice(0, 5), slice(5, 12))):
        counts = families.peak_counts([means[:, own] for means in world.means], balanced)
        wanted = families.member_peaks(counts, design, strata=LABELS, seed=3)
        assert made.layers["member_peaks"][place] == wanted.share
        assert made.layers["member_peaks_expected"][place] == wanted.expected
        assert made.layers["member_peaks_p"][place] == wanted.p
        assert 0.001 < wanted.p != families.member_peaks(counts, design, seed=3).p, "labels are strata"
    inside, outside = families.peaks_of_images(counts, design.membership)
    same(made.samples["peaks_in"], np.where(balanced, inside, np.nan))
    same(made.samples["peaks_out"], np.where(balanced, outside, np.nan))
    unread = replace(given, readings={name: replace(each, peaks={}) for name, each in given.readings.items()})
    assert "member_peaks" not in tables(unread).layers


def test_units_are_those_of_the_f() -> None:
    world, given = pair_of_two()
    made = tables(given)
    units = made.units
    assert units["encoder"] == ["f1"] * U + ["f2"] * U
    assert units["layer"] == (["conv"] * 5 + ["output"] * 7) * 2
    scores = [UnitMem(), UnitMem()]
    for k, each in enumerate(scores):
        each.update(torch.from_numpy(world.means[k]), ids=torch.from_numpy(world.index))
    assert torch.equal(units["unitmem"], torch.cat([each.compute() for each in scores]))
    assert units["peak_id"][0] == f"{int(world.means[0, :, 0].argmax())}.png"
    of_output = [float(each.compute()[5:].double().mean()) for each in scores]
    assert made.layers["unitmem_mean"][1] == pytest.approx(np.mean(of_output), abs=1e-15)
    assert made.layers["unitmem_se"][1] == pytest.approx(abs(of_output[0] - of_output[1]) / 2, rel=1e-12)
    assert made.layers["classmem_se"][0] > 0
    assert set(made.state) == {
        f"{layer}/{kind}" for layer in LAYERS for kind in ("unitmem/peak", "unitmem/index", "unitmem/rest",
        "unitmem/low", "unitmem/count", "classmem/sums", "classmem/count", "classmem/wide")
    }  # fmt: skip
    assert torch.equal(made.state["output/unitmem/peak"], units["peak"][5:12])


def test_the_table_of_encoders() -> None:
    world, given = pair_of_two()
    made = tables(given)
    table = made.encoders
    assert table["encoder"] == ["f1", "f2", "g1", "g2"]
    assert table["role"] == ["f", "f", "g", "g"]
    assert table["n_members"] == [40, 40, 30, 30]
    design = families.design(world.membership)
    same(table["level"], families.image_scores(world.stack, design).levels[1])
    attacks = families.attack(world.stack, design)
    assert attacks.lira is None
    assert np.isnan(table["auc_lira"]).all(), "too few encoders"
    for by, attack in (("", attacks.alignment), ("_sslmem", attacks.sslmem)):
        for k in range(2):
            roc = attack.encoders[k]
            assert roc is not None
            ends = [table[f"auc{by}{end}"][k] for end in ("", "_lo", "_hi")]
            assert ends == [roc.auc, roc.auc_low, roc.auc_high]
            ends = [table[f"tpr_10{by}{end}"][k] for end in ("", "_lo", "_hi")]
            same(ends, [roc.tpr[0], roc.low[0], roc.high[0]])
            same([table[f"tpr_{rate}{by}"][k] for rate in ("01", "001")], [np.nan, np.nan])
        assert np.isnan(table[f"auc{by}"][2:]).all(), "f's are attacked"
    layers = [made.units["unitmem"][:5].double().mean(), made.units["unitmem"][5:12].double().mean()]
    assert table["unitmem_mean"][0] == pytest.approx(float(sum(layers)) / 2, abs=1e-12)
    assert table["unitmem_mean"][2] is None


def test_a_signed_layer_is_left_out_of_the_mean_of_an_encoder() -> None:
    world, given = pair_of_two()
    world.means[0, :, 2] = 0.0
    world.means[0, 0, 2], world.means[0, 1, 2] = 1.0, -(N - 1)  # the peak and the mean of the others cancel
    readings = given.readings | {"f1": world.readings(["f1"])["f1"]}
    table = tables(replace(given, readings=dict(readings)))
    own = table.units["unitmem"][5:12]
    assert table.encoders["unitmem_mean"][0] == pytest.approx(float(own.double().mean()), abs=1e-12)


def test_one_pair_with_a_control_group() -> None:
    world, given = pair({"candidate": 40, "extra": 80})
    made = tables(given)
    design = families.design(world.membership)
    scores = world.stack[1, :, 1].astype(np.float64) - world.stack[1, :, 0]
    same(made.samples["p"][:40], families.conformal_p(scores[:40], scores[40:]))
    assert made.significance is not None
    assert (made.significance.method, made.significance.check) == ("conformal", "none")
    assert made.significance.reason.startswith("no standard error: ")
    assert np.isnan(made.samples["se"]).all()
    assert np.isnan(made.layers["se"]).all()
    assert not np.isnan(made.layers["se_images"]).any()
    stacks = [np.ascontiguousarray(world.halves[:, half].transpose(1, 2, 0)) for half in (0, 1)]
    wanted = families.layer_scores(world.stack, design, halves=(stacks[0], stacks[1]))
    same(made.layers["layermem_top50"], wanted.top)
    same(made.layers["layermem_least50_control"], wanted.least_control)
    assert np.isfinite(wanted.top).all()
    few = replace(given, readings=world.readings(["f", "g"], views=3))
    assert np.isnan(tables(few).layers["layermem_top50"]).all(), "3 views have no halves"


@pytest.mark.parametrize("sizes", [{"candidate": 40, "unknown": 80}, {"candidate": 40, "independent": 60, "extra": 20}])
def test_one_pair_without_a_control_group_says_nothing(sizes: dict[str, int]) -> None:
    made = tables(pair(sizes)[1])
    assert made.significance is not None
    assert (made.significance.method, made.significance.control) == ("none", "none")
    assert made.significance.verdict.startswith("This audit cannot tell memorization from a tighter encoder; add ")
    assert made.significance.n_memorized is None
    assert "memorized" not in made.samples
    assert "n_memorized" not in made.layers
    for name in ("p", "q", "se"):
        assert np.isnan(made.samples[name]).all()
    assert np.isnan(made.layers["layermem_top50"]).all()
    assert not np.isnan(made.layers["reliability"]).any() or made.significance.reliability is None


def test_without_a_reference_or_membership() -> None:
    given = pair({"unknown": N})[1]
    made = tables(given)
    assert made.significance is None
    assert "n_in" not in made.samples
    assert "p" not in made.samples
    assert made.encoders["n_members"] == [None, None]
    assert made.layers["layermem"][0] is not None
    alone = World(np.ones((N, 1)))
    single = tables(measured(alone, {"f": "f"}))
    assert single.significance is None
    assert single.encoders["n_members"] == [N]
    assert "sslmem" not in single.samples
    assert single.layers["unitmem_mean"] == made.layers["unitmem_mean"] or single.units["encoder"] == ["f"] * U


def test_a_varying_design() -> None:
    world, given = varying(fdr=0.1, seed=2)
    made = tables(given)
    design = families.design(world.membership)
    images = families.image_scores(world.stack, design, rows=list(world.rows), fdr=0.1, seed=2)
    layers = families.layer_scores(world.stack, design, seed=2)
    assert made.significance is not None
    assert (made.significance.design, made.significance.method) == ("varying", "moderated t")
    assert made.significance.n_scored == N - 5
    assert made.samples["alignment_f/conv"] == made.samples["alignment_g/output"] == [None] * N
    same(made.samples["sslmem"], images.sslmem[1].astype(np.float32))
    assert np.isnan(made.samples["sslmem"][:5]).all()
    same(made.samples["p"], images.p[1])
    same(made.samples["p_check"], images.p_check)
    assert made.samples["n_in"][5] + made.samples["n_out"][5] == 5
    same(made.layers["layermem"], layers.layermem)
    same(made.layers["delta"], layers.delta)
    same(made.layers["layermem_top50"], layers.top)
    same(made.layers["layermem_range"], pytest.approx(layers.ranged, rel=1e-12).expected)
    assert "layermem_candidates" not in made.layers
    assert made.units["encoder"] == [f"e{k}" for k in range(6) for _ in range(U)]
    assert made.encoders["role"] == [None] * 6
    assert np.isfinite(made.encoders["auc"]).all()
    assert 20 < made.significance.n_memorized < 60  # type: ignore[operator]


def test_encoders_without_roles_that_are_a_split_get_them() -> None:
    world = World(families.membership_of_groups(FOUR, n_f=2, n_g=2))
    made = tables(measured(world, {"a": "", "b": "", "c": "", "d": ""}))
    assert made.encoders["role"] == ["f", "f", "g", "g"]
    assert made.significance is not None
    assert made.significance.design == "fixed"
    assert made.units["encoder"] == ["a"] * U + ["b"] * U


def test_images_with_a_nan_are_left_out_and_counted() -> None:
    world, _ = pair_of_two()
    world.alignment[2, 0, [3, 50]] = math.nan
    made = tables(measured(world, ROLES))
    kept = world.membership.copy()
    kept[[3, 50]] = -1
    design = families.design(kept)
    assert made.significance is not None
    assert made.significance.unscored_nan == 2
    assert made.significance.n_scored == 39
    same(made.samples["p"], families.image_scores(world.stack, design).p[1])
    assert made.samples["n_in"][3] == 2, "what is known of who saw it stays"
    assert torch.isnan(made.samples["alignment_g/conv"][3])
    world.membership[50] = -1  # nothing is known of it: its NaN is in no number
    again = tables(measured(world, ROLES))
    assert again.significance is not None
    assert again.significance.unscored_nan == 1
    world.alignment[0, 1, :40] = math.nan  # all candidates
    assert tables(measured(world, ROLES)).significance is None
    world.alignment[2] = math.nan
    assert tables(measured(world, ROLES)).significance is None


def test_a_nan_where_nothing_is_known_is_in_no_number() -> None:
    world, _ = varying()
    world.alignment[0, :, 5] = math.nan  # whether the first encoder saw the image is unknown
    made = tables(measured(world, dict.fromkeys([f"e{k}" for k in range(6)], "")))
    assert made.significance is not None
    assert made.significance.unscored_nan == 0
    assert np.isfinite(made.samples["p"][5])


def test_alignments_by_role_are_means_in_float64() -> None:
    world = World(families.membership_of_groups(FOUR, n_f=3, n_g=3))
    made = tables(measured(world, {"f1": "f", "f2": "f", "f3": "f", "g1": "g", "g2": "g", "g3": "g"}))
    wanted = world.alignment[:3].astype(np.float64).mean(0).astype(np.float32)
    assert torch.equal(made.samples["alignment_f/output"], torch.from_numpy(wanted[1]))
    assert not np.array_equal(wanted, world.alignment[:3].mean(0))


def test_pictures_are_what_is_independent() -> None:
    world, given = pair_of_two()
    pictures = [f"p{row // 4}" if row % 8 else None for row in range(N)]
    numbers = [f"p{row // 4}" if row % 8 else f"own{row}" for row in range(N)]
    made = tables(replace(given, images={**given.images, "picture": pictures}))
    wanted = families.layer_scores(world.stack, families.design(world.membership, pictures=numbers))
    np.testing.assert_allclose(made.layers["se"], wanted.se, rtol=1e-12)
    assert not np.allclose(wanted.se, families.layer_scores(world.stack, families.design(world.membership)).se)


def test_options_decide() -> None:
    made = tables(pair_of_two(control="none")[1])
    assert made.significance is not None
    assert made.significance.method == "none"
    left = tables(pair_of_two(level="none")[1])
    assert left.significance is not None
    assert not left.significance.levels_removed
    with pytest.raises(DataError, match="'shared' images as control"):
        tables(pair_of_two(control="shared")[1])


def test_one_training_that_is_given_twice_is_refused() -> None:
    given = pair_of_two()[1]
    readings = dict(given.readings)
    readings["f2"] = readings["f1"]
    with pytest.raises(DataError, match="'f1' and 'f2' differ too little"):
        tables(replace(given, readings=readings))


def test_the_order_of_images_changes_nothing() -> None:
    world, given = pair_of_two()
    order = np.random.default_rng(1).permutation(N)
    moved = World(world.membership)
    for name in ("membership", "index"):
        setattr(moved, name, getattr(world, name)[order])
    moved.alignment, moved.halves, moved.means = (
        world.alignment[:, :, order],
        world.halves[..., order],
        world.means[:, order],
    )
    moved.rows = world.rows[:, order]
    after = measured(moved, ROLES)
    after = replace(
        after, images={**after.images, "id": [f"{row}.png" for row in order], "label": LABELS[order].tolist()}
    )
    one, other = tables(given), tables(after)
    np.testing.assert_allclose(np.asarray(one.samples["p"])[order], other.samples["p"], rtol=1e-9)
    for name in ("layermem_excess", "se", "layermem_top50", "member_peaks"):
        np.testing.assert_allclose(np.asarray(one.layers[name]), other.layers[name], rtol=1e-9)
    assert one.samples["memorized"] == [other.samples["memorized"][place] for place in np.argsort(order)]


def test_a_copy_of_a_member_that_is_out_is_named() -> None:
    ids = list("abcdef")
    membership = np.array([[1, 0], [0, 0], [0, 1], [0, 0], [-1, -1], [1, 1]], dtype=np.int8)
    copies = [("a", "b", "near"), ("b", "c", "exact"), ("d", "e", "near"), ("d", "f", "near")]
    # a is in the first alone, c in the second alone, b in none; e is unknown; f is in both, d in none
    assert leaks(membership, ids, copies) == ["c", "a", "a", "f", None, None]
    assert leaks(membership, ids, []) == [None] * 6
