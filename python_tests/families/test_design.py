"""Designs: what is scored, what is the control, and that every mistake is an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
from family_cases import random_rows, split_groups

from memkern import families
from memkern.errors import ArgumentTypeError, ArgumentValueError, DataError

GROUPS = ["candidate", "shared", "independent", "extra", "unknown"]


def test_groups_become_rows_of_the_membership():
    rows = families.membership_of_groups(GROUPS, n_f=2, n_g=1)
    assert rows.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [-1, -1, -1]]
    assert rows.dtype == np.int8


def test_a_fixed_split_scores_candidates():
    found = families.design(families.membership_of_groups(GROUPS, n_f=2, n_g=2), groups=GROUPS)
    assert found.kind == "fixed"
    assert found.scored.tolist() == [True, False, False, False, False]
    assert found.role.tolist() == [True, True, False, False]
    assert not found.has_control


def test_the_first_encoder_is_f_wherever_the_others_stand():
    membership = families.membership_of_groups(["candidate", "independent"], n_f=2, n_g=2)[:, [0, 2, 1, 3]]
    assert families.design(membership).role.tolist() == [True, False, True, False]
    swapped = families.design(membership[:, [1, 0, 2, 3]])
    assert swapped.role.tolist() == [True, False, False, True]
    assert swapped.scored.tolist() == [False, True]


def test_a_varying_design_scores_images_with_both_sides():
    membership = np.array([[1, 1, 0], [1, 0, -1], [1, 1, 1], [0, 0, 1], [1, -1, -1]])
    found = families.design(membership)
    assert found.kind == "varying"
    assert found.scored.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("groups", "control", "name", "count"),
    [
        (split_groups(5, 30), "auto", "extra", 30),
        (split_groups(5, 29), "auto", "none", 0),
        ([*split_groups(5, 29), *["shared"] * 31], "auto", "shared", 31),
        ([*split_groups(5, 40), *["shared"] * 31], "auto", "extra", 40),
        ([*split_groups(5, 40), *["shared"] * 31], "shared", "shared", 31),
        (split_groups(5, 40), "none", "none", 0),
        (split_groups(5, 0, independents=90), "auto", "none", 0),
    ],
)
def test_the_control_group(groups, control, name, count):
    found = families.design(families.membership_of_groups(groups), control=control)
    assert (found.control_name, int(found.control.sum())) == (name, count)


def test_controls_come_from_the_pictures_of_candidates_or_from_ten():
    membership = families.membership_of_groups(split_groups(30, 30))
    own = np.arange(60) % 30
    three = np.concatenate([np.arange(30), 30 + np.arange(30) % 3])
    ten = np.concatenate([np.arange(30), 30 + np.arange(30) % 10])
    names = [families.design(membership, pictures=each).control_name for each in (own, three, ten)]
    assert names == ["extra", "none", "extra"]
    with pytest.raises(DataError, match="got 30 from 3"):
        families.design(membership, pictures=three, control="extra")


PAIR = families.membership_of_groups(split_groups(3, 30))
VARYING = random_rows(np.random.default_rng(0), 20, 4, 2)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: families.membership_of_groups(["candidate", "member"]),
            DataError,
            "Unknown group 'member' of image 1",
        ),
        (lambda: families.membership_of_groups(["extra"], n_f=0), ArgumentValueError, "at least one f and one g"),
        (lambda: families.design(PAIR, encoders=["f", "f"]), DataError, "Encoder 'f' is named twice"),
        (lambda: families.design(PAIR, encoders=["f"]), ArgumentValueError, "name 2 encoders"),
        (lambda: families.design(PAIR, groups=["extra"] * 33), DataError, r"Image 0 is in group 'extra', .*\[1, 0\]"),
        (lambda: families.design(PAIR, groups=["extra"]), ArgumentValueError, "name 33 groups"),
        (lambda: families.design(VARYING, groups=["extra"] * 20), DataError, "leave `groups` out"),
        (lambda: families.design(PAIR, scored=np.arange(33) == 5), DataError, "Image 5 cannot be scored"),
        (lambda: families.design(PAIR, scored=[1, 2]), ArgumentValueError, "`scored` to be bool"),
        (lambda: families.design(PAIR, pictures=[1]), ArgumentValueError, "`pictures` to have shape"),
        (lambda: families.design(PAIR, control="extras"), ArgumentValueError, "got 'extras'"),
        (lambda: families.design(PAIR, control="shared"), DataError, "at least 30 'shared' images as control"),
        (lambda: families.design(VARYING, control="extra"), DataError, "is its own control"),
        (lambda: families.design(PAIR * 1.0), ArgumentTypeError, "to hold integers"),
        (lambda: families.design(PAIR[:, :1]), ArgumentValueError, "K >= 2"),
        (lambda: families.design(PAIR + 1), ArgumentValueError, "got 2"),
        (lambda: families.design(np.ones((5, 3), int)), DataError, "No image can be scored"),
        (
            lambda: families.design([[1, -1, 0], [-1, 1, -1], [0, 0, -1]], scored=[False, True, False]),
            DataError,
            "Image 1",
        ),
    ],
)
def test_mistakes_say_what_to_do(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_checkpoints_of_one_training_are_refused():
    rng = np.random.default_rng(0)
    membership = random_rows(rng, 200, 6, 3)
    membership[:, 5] = membership[:, 2]
    alignment = rng.normal(0.4, 0.03, membership.shape)
    found = families.design(membership, encoders=["a", "b", "c", "d", "e", "c-late"])
    assert families.duplicate_encoders(alignment, found) == []
    alignment[:, 5] = alignment[:, 2] + 0.001 * rng.normal(size=200) + 0.1
    assert families.duplicate_encoders(alignment, found) == [("c", "c-late")]
    for call in (families.image_scores, families.layer_scores, families.attack):
        with pytest.raises(DataError, match="'c' and 'c-late' differ too little"):
            call(alignment, found)


def test_tight_encoders_are_not_one_training():
    """Where all alignments of two encoders are small, as cosine distances of tight ones are, so is their difference."""
    rng = np.random.default_rng(2)
    membership = random_rows(rng, 200, 8, 4)
    scale = np.array([1, 1, 0.1, 1, 0.5, 1, 0.1, 0.8])
    alignment = scale * (rng.normal(0.4, 0.08, (200, 1)) + 0.03 * rng.normal(size=membership.shape))
    names = list("abcdefgh")
    assert families.duplicate_encoders(alignment, families.design(membership, encoders=names)) == []
    assert families.image_scores(alignment, families.design(membership)).method == "moderated t"
    alignment[:, 6] = alignment[:, 2] + 0.0002 * rng.normal(size=200)
    assert families.duplicate_encoders(alignment, families.design(membership, encoders=names)) == [("c", "g")]


def test_few_images_are_no_proof_of_one_training():
    """Of 20 images of equal membership a variance of a tenth is next to impossible; of 5 it is not, among 28 pairs."""
    rng = np.random.default_rng(1)
    for same, refused in ((20, True), (5, False)):
        membership = random_rows(rng, 200, 8, 4)
        membership[:, 7] = 1 - membership[:, 6]
        membership[:same, 7] = membership[:same, 6]
        alignment = rng.normal(0.4, 0.03, membership.shape)
        difference = alignment[:same, 7] - alignment[:same, 6]
        target = rng.normal(size=same)
        target *= np.sqrt(0.09 * 2 * 0.03**2) / target.std()
        alignment[:same, 7] += target - difference
        found = families.duplicate_encoders(alignment, families.design(membership))
        assert found == ([("6", "7")] if refused else [])
        alignment[:same, 7] = alignment[:same, 6]
        assert families.duplicate_encoders(alignment, families.design(membership)) == [("6", "7")]


def test_a_pair_is_refused_only_if_it_differs_by_a_constant():
    found = families.design(PAIR)
    first = np.random.default_rng(0).normal(0.4, 0.03, 33)
    assert families.duplicate_encoders(np.stack([first, first], 1), found) == [("0", "1")]
    assert families.duplicate_encoders(np.stack([first, first + 1e-6 * np.arange(33)], 1), found) == []
    assert families.duplicate_encoders(np.zeros((33, 2)), found) == []  # collapsed, which is another finding
