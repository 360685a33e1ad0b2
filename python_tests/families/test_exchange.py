"""What a permutation may exchange, from where the images of a group lie."""

from __future__ import annotations

import numpy as np
import pytest

from memkern import families
from memkern.errors import ArgumentValueError

GROUP = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)
WITHIN = list("aabbaabb")  # both sides in every picture
WHOLE = list("aaabbbcd")


def test_images_are_exchanged_within_pictures_that_hold_both_sides():
    found = families.exchange_of_group(GROUP, pictures=WITHIN, labels=list("xyxyxyxy"))
    assert (found.within, found.pictures) == ("picture", None)
    assert found.strata.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_whole_pictures_move_within_labels_that_do_not_cut_them():
    found = families.exchange_of_group(GROUP, pictures=WHOLE)
    assert (found.within, found.strata) == ("", None)
    assert found.pictures.tolist() == [0, 0, 0, 1, 1, 1, 2, 3]
    same = families.exchange_of_group(GROUP, pictures=WHOLE, labels=list("xxxxxxyy"))
    assert same.within == "label"
    assert same.strata.tolist() == [0] * 6 + [1] * 2
    cut = families.exchange_of_group(GROUP, pictures=WHOLE, labels=list("xyxyxyxy"), folders=list("vvvvvvww"))
    assert cut.within == "folder"
    values = np.arange(8.0)
    test = families.group_test(values, GROUP, strata=cut.strata, pictures=cut.pictures, draws=4000)
    assert test.p == pytest.approx(1.0)  # of two exchanges within each folder, the largest total has 3 + 7, here 3 + 6
    assert test.expected == pytest.approx((3 + 12) / 2 + (6 + 7) / 2)


def test_pictures_of_one_image_say_nothing_and_labels_do():
    pictures = np.arange(8)
    assert families.exchange_of_group(GROUP, pictures=pictures).within == ""
    found = families.exchange_of_group(GROUP, pictures=pictures, labels=WITHIN)
    assert (found.within, found.pictures) == ("label", None)


def test_names_that_tell_the_group_are_no_strata():
    folders = np.where(GROUP, "in", "out")
    found = families.exchange_of_group(GROUP, folders=folders)
    assert (found.strata, found.pictures, found.within) == (None, None, "")
    assert families.exchange_of_group(GROUP, labels=folders, folders=WITHIN).within == "folder"


def test_a_shape_that_does_not_fit_is_named():
    for name in ("pictures", "labels", "folders"):
        with pytest.raises(ArgumentValueError, match=rf"`{name}` to have shape \[8\]"):
            families.exchange_of_group(GROUP, **{name: [1]})
