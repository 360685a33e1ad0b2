"""Failures by name: each appears where it was made, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from family_cases import World, random_rows, simulate, split_groups

from memkern import families
from memkern.errors import ArgumentValueError


def names(alignment, design):
    scores, layers = families.image_scores(alignment, design), families.layer_scores(alignment, design)
    return [each.name for each in families.findings(scores, layers, design)], scores, layers


def test_a_family_that_memorizes_has_no_finding():
    rng = np.random.default_rng(0)
    membership = random_rows(rng, 400, 16, 8)
    alignment, _ = simulate(membership, rng, World(level=0.01))
    assert names(alignment, families.design(membership))[0] == []


def test_nothing_memorized_is_near_zero_and_unreliable():
    rng = np.random.default_rng(1)
    membership = random_rows(rng, 300, 4, 2)
    alignment, _ = simulate(membership, rng, World(share=0.0))
    design = families.design(membership)
    found, scores, layers = names(alignment, design)
    assert found == ["near zero", "unreliable", "levels above effect"]
    sentences = {each.name: each.sentence for each in families.findings(scores, layers, design)}
    assert f"reliability of {scores.reliability[0]:.2f} with 4 encoders" in sentences["unreliable"]
    assert f"by {scores.sd_levels[0]:.3f}" in sentences["levels above effect"]


def test_a_pair_is_judged_by_images_and_against_its_control():
    rng = np.random.default_rng(2)
    design = families.design(families.membership_of_groups(split_groups(200, 400)))
    alignment = 0.4 + 0.01 * rng.normal(size=(600, 2)) + [0.03, -0.03]
    assert names(alignment, design)[0] == ["near zero", "unreliable", "levels above effect"]
    alignment[:200, 0] -= 0.1 * rng.random(200)
    assert names(alignment, design)[0] == []


def test_one_layer_that_is_not_near_zero_is_enough():
    rng = np.random.default_rng(3)
    membership = random_rows(rng, 300, 8, 4)
    nothing, _ = simulate(membership, rng, World(share=0.0, level=0.0))
    something, _ = simulate(membership, rng, World(share=0.5, level=0.0))
    design = families.design(membership)
    assert "near zero" not in names([something, nothing], design)[0]
    assert "near zero" in names([nothing, nothing], design)[0]


def test_scores_are_not_near_zero_where_an_image_is_called():
    rng = np.random.default_rng(5)
    membership = random_rows(rng, 300, 8, 4)
    alignment, _ = simulate(membership, rng, World(share=0.0, level=0.0))
    assert "near zero" in names(alignment, families.design(membership))[0]
    alignment[0] -= 0.2 * membership[0]
    found, scores, layers = names(alignment, families.design(membership))
    assert layers.low[0] < 0 < layers.high[0]
    assert scores.memorized[0]
    assert "near zero" not in found


def test_a_collapsed_layer_is_named():
    rng = np.random.default_rng(4)
    membership = random_rows(rng, 400, 16, 8)
    alignment, _ = simulate(membership, rng, World(level=0.01))
    design = families.design(membership)
    found, scores, layers = names([np.zeros_like(alignment), alignment], design)
    assert found == ["collapsed"]
    assert "at layer 0:" in families.findings(scores, layers, design)[0].sentence


def test_memorization_grows_while_accuracy_does_not():
    grows = families.grows_without_accuracy
    accuracy = [0.3, 0.7, 0.6, 0.7, 0.5]
    found = grows([0, 10, 20, 30, 40], [0.2, 0.1, 0.15, 0.12, 0.3], accuracy)
    assert found.name == "grows without accuracy"
    assert "from 0.100 to 0.300 since epoch 10, where the accuracy was highest (0.700)" in found.sentence
    assert grows(range(5), [0.2, 0.1, 0.15, 0.1, 0.3], accuracy) is None, "one of the later ones is no larger"
    assert grows(range(5), [0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]) is None, "accuracy grows as well"
    assert grows(range(4), [0.2, 0.1, 0.2, 0.3], accuracy[:4]) is None, "too few measurements"
    missing = [0.3, 0.7, np.nan, 0.7, 0.5]
    assert grows(range(5), [0.2, 0.1, 0.15, 0.12, 0.3], missing) is None, "what is unknown does not count"
    assert grows([], [], []) is None
    with pytest.raises(ArgumentValueError, match=r"of one shape \[T\], got \[2\], \[2\] and \[1\]"):
        grows([0, 1], [0, 1], [1])
