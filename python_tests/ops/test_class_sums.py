"""Class sums, on every path against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memkern import reference
from memkern.ops.class_sums import class_sums
from python_tests.helpers import testing

WIDE = [torch.float32, torch.float64]


@pytest.fixture(params=WIDE, ids=["float32", "float64"])
def wide(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def labels_of(points: int, classes: int) -> Tensor:
    return torch.randint(classes, (points,), generator=testing.rng("labels", points, classes))


def check(means: Tensor, labels: Tensor, classes: int, path: str) -> None:
    """Sums of at most `points` numbers in float64, in any order: an epsilon of the magnitudes for each addition."""
    got = class_sums(means, labels, classes=classes, backend=path)
    want = reference.class_sums(means, labels, classes=classes)
    magnitude = reference.class_sums(means.abs(), labels, classes=classes)
    tolerance = magnitude * len(means) * torch.finfo(torch.float64).eps
    testing.assert_within(got, testing.Expected(want, tolerance), torch.float64, (tuple(means.shape), classes))


@pytest.mark.parametrize("units", [1, 2, 7, 8, 9, 15, 16, 17, 33, 100, 257, 2049])
def test_units(kernel, units, wide):
    for points, classes in ((1, 1), (5, 3), (40, 10)):
        check(testing.randn(points, units, dtype=wide), labels_of(points, classes), classes, kernel)


@pytest.mark.parametrize(
    ("points", "units", "classes"),
    [(3000, 40, 7), (3000, 300, 7), (300, 1100, 2), (50, 5, 90), (300, 561, 2), (300, 1025, 4), (400, 1030, 4)],
)
def test_bits_do_not_depend_on_threads(points, units, classes, wide):
    """Narrow rows go into tables of parts of the points, others class after class, with classes cut by their units.

    The last three have a unit that stands in a vector for some numbers of threads and behind the vectors for others.
    """
    means, labels = testing.randn(points, units, dtype=wide), labels_of(points, classes)
    check(means, labels, classes, "cpu")
    with testing.threads(1):
        alone = class_sums(means, labels, classes=classes, backend="cpu")
    for threads in (2, 3, 8):
        with testing.threads(threads):
            testing.assert_same_bits(class_sums(means, labels, classes=classes, backend="cpu"), alone)


@pytest.mark.parametrize(("points", "classes"), [(2, 2), (100, 1), (100, 7), (100, 1000), (3000, 10), (1000, 1000)])
def test_points_and_classes(kernel, points, classes, wide):
    check(testing.randn(points, 19, dtype=wide), labels_of(points, classes), classes, kernel)


def test_missing_classes_sum_to_zero(path, wide):
    means = testing.randn(6, 5, dtype=wide)
    labels = torch.tensor([1, 4, 4, 1, 1, 4])
    got = class_sums(means, labels, classes=7, backend=path)
    assert (got[[0, 2, 3, 5, 6]] == 0).all()
    check(means, labels, 7, path)


def test_no_points(path, wide):
    got = class_sums(torch.empty(0, 4, dtype=wide), torch.empty(0, dtype=torch.int64), classes=3, backend=path)
    assert got.tolist() == [[0.0] * 4] * 3


def test_hand_worked(path, wide):
    """Classes 0 = {1, 3}, 1 = {6}: ClassMem is (6 - 2) / (6 + 2)."""
    got = class_sums(torch.tensor([[1.0], [3.0], [6.0]], dtype=wide), torch.tensor([0, 0, 1]), classes=2, backend=path)
    assert got.tolist() == [[4.0], [6.0]]


def test_nan_stays_in_its_class_and_unit(path, wide):
    means = testing.randn(30, 20, dtype=wide)
    means[7, 3] = torch.nan
    means[8, 4] = torch.inf
    got = class_sums(means, torch.arange(30) % 5, classes=5, backend=path)
    assert got.isnan().nonzero().tolist() == [[2, 3]]
    assert got.isposinf().nonzero().tolist() == [[3, 4]]


def test_sums_are_wide(path):
    """2^24 + 1 is lost in float32; class sums are added in float64."""
    means = torch.tensor([[2.0**24], [1.0], [1.0]])
    assert class_sums(means, torch.zeros(3, dtype=torch.int64), classes=1, backend=path).item() == 2.0**24 + 2


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_layouts(path, layout, wide):
    means, labels = testing.randn(20, 9, dtype=wide), labels_of(20, 4)
    spaced = torch.stack([labels, torch.full_like(labels, -1)], 1)[:, 0]
    got = class_sums(testing.LAYOUTS[layout](means), spaced, classes=4, backend=path)
    testing.assert_same_bits(got, class_sums(means, labels, classes=4, backend=path))
