"""Unit means in every memory layout, on every path against the float64 reference."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

import memkern
from memkern import native, reference
from python_tests.helpers import testing
from python_tests.helpers.testing import expected_unit_means as expected

ACTIVATIONS = ("raw", "relu", "abs")


def check(x: Tensor, unit_dim: int, path: str, activation: str = "raw", want: testing.Expected | None = None) -> None:
    got = memkern.unit_means(x, unit_dim=unit_dim, activation=activation, backend=path)
    want = want or expected(x, unit_dim=unit_dim, activation=activation)
    what = (tuple(x.shape), x.stride(), unit_dim, activation)
    testing.assert_within(got, want, native.accumulate_dtype(x.dtype), what)


@functools.lru_cache(maxsize=1024)
def case(shape: tuple[int, ...], dtype: torch.dtype, unit_dim: int, activation: str):
    x = testing.randn(*shape, dtype=dtype)
    return x, expected(x, unit_dim=unit_dim, activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_layouts(kernel, layout, dtype, activation):
    """Every layout with every dimension in the role of the units."""
    for shape in ((5, 3, 7, 4, 6), (3, 2, 33, 5, 5), (4, 35, 9), (2, 3, 5, 17, 1)):
        for unit_dim in range(1, len(shape)):
            x, want = case(shape, dtype, unit_dim, activation)
            check(testing.LAYOUTS[layout](x), unit_dim, kernel, activation, want)


@pytest.mark.parametrize("space", [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 49, 63, 64, 65, 127, 129, 196, 257, 1000])
def test_space(kernel, space, dtype):
    """Maps from below a vector to several trees of vectors, with every ragged end; units on both sides of a block."""
    for units in (1, 2, 9, 19):
        x = testing.randn(2, units, space, dtype=dtype)
        check(x, 1, kernel)
        check(testing.misaligned(x.mT.contiguous()), 2, kernel)  # the same numbers as tokens


@pytest.mark.parametrize(
    "units", [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 257, 1023, 2047, 2049, 4099]
)
def test_units(kernel, units, dtype):
    """Rows of units, summed over 1 to 11 tokens; 2048 units are one block."""
    for tokens in (1, 2, 5, 11):
        check(testing.randn(2, tokens, units, dtype=dtype), 2, kernel)
    check(testing.randn(3, units, dtype=dtype), 1, kernel)


@pytest.mark.parametrize("units", [1, 2, 3, 5, 7, 12])
def test_narrow_rows(kernel, units, dtype):
    """Fewer units than a vector holds, many rows: several rows are added as one."""
    for rows in (1, 7, 8, 9, 63, 64, 65, 130, 577):
        check(testing.misaligned(testing.randn(2, rows, units, dtype=dtype)), 2, kernel)


@pytest.mark.parametrize(
    "shape", [(3, 1, 1, 1, 1), (3, 2, 1, 4, 4), (3, 1, 6, 1, 1), (1, 1, 1, 1, 9), (2, 3, 4, 1, 5)], ids=str
)
def test_dimensions_of_size_one(kernel, shape, dtype):
    x = testing.randn(*shape, dtype=dtype)
    for unit_dim in range(1, 5):
        check(x, unit_dim, kernel)
        odd_strides = x.as_strided(
            shape, [1000 if size == 1 else step for size, step in zip(shape, x.stride(), strict=True)]
        )
        check(odd_strides, unit_dim, kernel, want=expected(x, unit_dim=unit_dim))


@pytest.mark.parametrize("points", [1, 2, 255, 256, 257, 600])
def test_points_innermost(kernel, points, dtype):
    """A transposed matrix, with and without something to average; points are handled in blocks of 256."""
    x = testing.randn(points, 19, dtype=dtype)
    check(testing.in_order(x, 1, 0), 1, kernel, want=expected(x, unit_dim=1))
    x = testing.randn(points, 3, 5, dtype=dtype)
    for unit_dim in (1, 2):
        check(testing.in_order(x, 1, 2, 0), unit_dim, kernel, want=expected(x, unit_dim=unit_dim))


def test_nine_dimensions_without_neighbours(path):
    """Seven averaged dimensions that cannot be merged: the longest odometer."""
    x = testing.randn(2, 2, 3, 2, 2, 3, 2, 2, 2)
    spread = testing.in_order(x, 0, 2, 4, 6, 8, 1, 3, 5, 7)[..., ::1]
    check(spread, 1, path, want=expected(x, unit_dim=1))
    check(testing.gapped(x), 4, path, want=expected(x, unit_dim=4))


@pytest.mark.parametrize("given", [(1, 3, 8, 6), (4, 1, 8, 6), (4, 3, 1, 6), (4, 3, 8, 1), (1, 1, 1, 1)], ids=str)
def test_expanded(kernel, given, dtype):
    x = testing.randn(*given, dtype=dtype).expand(4, 3, 8, 6)
    for unit_dim in (1, 2, 3):
        check(x, unit_dim, kernel, want=expected(x.contiguous(), unit_dim=unit_dim))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 1, 3, 4, 2)], ids=["planes", "channels last"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_error_does_not_grow_with_the_map(path, dtype, activation, order):
    """50176 positions: at most three float roundings in a tree of eight and the last one, however large the map."""
    x = testing.in_order(testing.relu_features(1, 2, 3, 224, 224, dtype=dtype), *order)
    truth = reference.unit_means(x, unit_dim=2, activation=activation)
    epsilon = torch.finfo(native.accumulate_dtype(dtype)).eps
    # float64 adds 50176 / 8 numbers of one sign per lane at most one after the other, each half an epsilon
    allowed = 2 * epsilon if dtype != torch.float64 else 2 * 224 * 224 / 8 * epsilon
    got = memkern.unit_means(x, view_dim=1, activation=activation, backend=path)
    testing.assert_within(
        got, testing.Expected(truth, truth * allowed), native.accumulate_dtype(dtype), (order, activation)
    )


@pytest.mark.parametrize("value", [1.0, -3.0, 0.1])
def test_mean_of_a_constant_is_that_constant(path, dtype, value):
    for shape in ((3, 4, 7, 7), (2, 5, 49), (2, 3, 1), (1, 2, 224, 224)):
        x = torch.full(shape, value, dtype=dtype)
        got = memkern.unit_means(x, backend=path)
        if dtype == torch.float64:
            slack = x[0, 0].numel() * torch.finfo(dtype).eps
            torch.testing.assert_close(got, torch.full_like(got, value), rtol=slack, atol=0)
        else:
            assert (got == x.flatten()[0].float()).all(), shape


def test_hand_worked(path, dtype):
    """2 points, 2 views, 2 units, 3 positions; small integers are exact in every dtype and order."""
    x = torch.arange(24.0).reshape(2, 2, 2, 3).to(dtype) - 8
    want = torch.tensor([[-4.0, -1.0], [8.0, 11.0]])
    assert memkern.unit_means(x, view_dim=1, backend=path).tolist() == want.tolist()
    assert memkern.unit_means(x, view_dim=2, unit_dim=1, backend=path).tolist() == [[-5.5, 0.5], [6.5, 12.5]]
    assert memkern.unit_means(x, view_dim=1, unit_dim=-1, backend=path).tolist() == [
        [-3.5, -2.5, -1.5],
        [8.5, 9.5, 10.5],
    ]
    assert memkern.unit_means(x, view_dim=1, activation="relu", backend=path)[0].tolist() == [0.0, (1 + 2 + 3) / 6]
    assert memkern.unit_means(x, view_dim=1, activation="abs", backend=path)[0].tolist() == [
        pytest.approx((8 + 7 + 6 + 2 + 1 + 0) / 6),
        pytest.approx((5 + 4 + 3 + 1 + 2 + 3) / 6),
    ]


def test_no_points_and_no_units(path, dtype):
    assert memkern.unit_means(torch.empty(0, 4, 3, dtype=dtype), backend=path).shape == (0, 4)
    assert memkern.unit_means(torch.empty(3, 0, 3, dtype=dtype), backend=path).shape == (3, 0)


def test_no_gradient_flows(path):
    x = testing.randn(2, 3, 4).requires_grad_()
    assert not memkern.unit_means(x, backend=path).requires_grad


def test_numpy_gives_numpy(path):
    x = testing.randn(3, 4, 5)
    got = memkern.unit_means(x.numpy(), backend=path)
    assert isinstance(got, np.ndarray)
    testing.assert_same_bits(torch.from_numpy(got), memkern.unit_means(x, backend=path))
