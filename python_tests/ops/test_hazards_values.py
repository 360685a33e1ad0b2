"""Values: NaN, infinities, huge and tiny numbers, dead and signed units. NaN masks are compared first."""

from __future__ import annotations

import pytest
import torch

import memkern
from memkern import native, reference
from memkern.ops.selectivity import selectivity
from python_tests.helpers import testing

SPECIAL = [torch.nan, torch.inf, -torch.inf]
SHAPES = [(5, 3, 7), (5, 10, 33), (3, 4, 515), (4, 2, 16, 5), (9, 6, 3, 2)]


def edges(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """First, last and middle elements: of a vector, of a tail, of a tile of views."""
    return [tuple(0 for _ in shape), tuple(size - 1 for size in shape), tuple(size // 2 for size in shape)]


# ---- alignment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_alignment_of_one_special_element(path, dtype, value, shape):
    """One bad element touches its own point only, as in the reference (inf - x is inf, inf / inf is NaN)."""
    for where in edges(shape):
        z = testing.randn(*shape, dtype=dtype)
        z[where] = value
        for pairs in ("all", "anchor"):
            for normalize in (True, False):
                want = reference.alignment(z, pairs=pairs, normalize=normalize)
                got = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=path)
                tolerance = torch.where(want.isfinite(), want * 1e-5, 0.0)
                what = (where, pairs, normalize)
                testing.assert_within(got, testing.Expected(want, tolerance), native.accumulate_dtype(dtype), what)
                assert got[torch.arange(shape[0]) != where[0]].isfinite().all()


@pytest.mark.parametrize("value", SPECIAL)
def test_infinities_in_two_views(path, dtype, value):
    """inf - inf is NaN: the pair of the two views is undefined, and so is its point."""
    z = testing.randn(3, 4, 20, dtype=dtype)
    z[1, 0, 3] = z[1, 2, 3] = value
    got = memkern.alignment(z, normalize=False, backend=path)
    assert got.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("value", SPECIAL)
def test_gradient_of_a_special_element_stays_in_its_point(path, dtype, value):
    z = testing.randn(4, 3, 33, dtype=dtype)
    z[2, 1, 32] = value
    for normalize in (True, False):
        leaf = z.detach().requires_grad_()
        memkern.alignment(leaf, normalize=normalize, backend=path).sum().backward()
        others = torch.tensor([0, 1, 3])
        assert leaf.grad[others].isfinite().all()
        if value != value:
            assert leaf.grad[2, 1].isnan().all()


@pytest.mark.parametrize("exponent", [-18, -15, -10, 10, 15])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_scales_that_squares_survive(path, wide, exponent):
    """Squares of 1e15 and 1e-18 are normal numbers: nothing is lost, and the unit vectors are those of scale 1."""
    z = testing.randn(4, 5, 129, dtype=wide) * 10.0**exponent
    for normalize in (True, False):
        want = reference.alignment(z, normalize=normalize)
        got = memkern.alignment(z, normalize=normalize, backend=path)
        # float32: 129 squares of at least (1e-18 / 4)^2 fall to 2^-149 each by half of it: up to 2 % of 1e-36 at worst
        slack = 16 * torch.finfo(wide).eps if exponent > -18 or wide == torch.float64 else 1e-5
        if normalize and exponent < -12:  # divided by 1e-12, as F.normalize does
            assert (want < 0.1).all()
        testing.assert_within(got, testing.Expected(want, want * slack), wide, (exponent, normalize))


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_overflowing_squares_are_infinite_or_right_never_small(path, wide):
    """Beyond the square root of the largest number a distance may be inf, as in plain torch; never a wrong number."""
    z = testing.randn(4, 3, 40, dtype=wide).sign() * torch.finfo(wide).max ** 0.5 * 4
    want = reference.alignment(z.double() * 2.0**-70, normalize=False) * 2.0**70
    got = memkern.alignment(z, normalize=False, backend=path).double()
    assert not (~(got.isinf() | ((got - want).abs() <= 1e-5 * want))).any()


def test_half_precision_extremes(path):
    """The largest float16 squared needs float32; subnormal float16 numbers count."""
    largest = torch.tensor([[[65504.0, 0.0], [-65504.0, 0.0]]], dtype=torch.float16)
    assert memkern.alignment(largest, normalize=False, backend=path).item() == 131008.0
    smallest = torch.tensor([2.0**-24, 2.0**-15, -(2.0**-24)], dtype=torch.float16).view(1, 3, 1).repeat(1, 1, 40)
    want = reference.alignment(smallest, normalize=False)
    torch.testing.assert_close(
        memkern.alignment(smallest, normalize=False, backend=path).double(), want, rtol=1e-6, atol=0
    )
    means = memkern.unit_means(smallest.mT, unit_dim=2, backend=path)
    assert means.tolist() == [[2.0**-24, 2.0**-15, -(2.0**-24)]]


def test_every_half_precision_number(path):
    """All 65536 bit patterns through a mean of one element: widened exactly, NaN as NaN."""
    for dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
        for shape in ((256, 256), (65536, 1), (1, 65536), (16384, 4)):
            got = memkern.unit_means(every.view(shape), backend=path)
            want = every.view(shape).float()
            assert (got.isnan() == want.isnan()).all()
            assert (got[~got.isnan()] == want[~want.isnan()]).all(), shape


def test_identical_views_have_distance_exactly_zero(path, dtype):
    for dims in (1, 7, 64, 515):
        z = testing.relu_features(4, 1, dims, dtype=dtype).repeat(1, 6, 1)
        for normalize in (True, False):
            assert (memkern.alignment(z, normalize=normalize, backend=path) == 0).all()


def test_parallel_views_are_at_distance_zero(path, dtype):
    """Norms 1, 2, 4: the same direction, so only the rounding of unit vectors remains."""
    z = testing.randn(4, 1, 300, dtype=dtype) * torch.tensor([1.0, 2.0, 4.0], dtype=dtype)[:, None]
    got = memkern.alignment(z, backend=path)
    assert (got <= 4 * torch.finfo(native.accumulate_dtype(dtype)).eps).all(), got


# ---- units --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("activation", ["raw", "relu", "abs"])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "points innermost"])
def test_unit_means_of_one_special_element(path, dtype, value, activation, layout):
    for shape in ((5, 3, 9, 7), (4, 2, 33, 5), (3, 2, 5, 40)):
        for where in edges(shape):
            x = testing.randn(*shape, dtype=dtype)
            x[where] = value
            want = reference.unit_means(x, unit_dim=2, activation=activation)
            moved = testing.LAYOUTS[layout](x)
            got = memkern.unit_means(moved, view_dim=1, activation=activation, backend=path)
            tolerance = torch.where(want.isfinite(), 1e-5, 0.0)
            testing.assert_within(
                got, testing.Expected(want, tolerance), native.accumulate_dtype(dtype), (shape, where)
            )
            stats = memkern.layer_stats(moved, backend=path)
            if activation == "raw":
                testing.assert_within(
                    stats.unit_means, testing.Expected(want, tolerance), native.accumulate_dtype(dtype), where
                )
                assert stats.alignment.isfinite().sum() == shape[0] - 1 or value != value


def test_infinities_of_both_signs_make_nan(path, dtype):
    x = testing.randn(3, 20, 50, dtype=dtype)
    x[1, 7, 3], x[1, 7, 44] = torch.inf, -torch.inf
    got = memkern.unit_means(x, backend=path)
    assert got.isnan().nonzero().tolist() == [[1, 7]]


@pytest.mark.parametrize("points", [2, 9, 65, 700])
def test_selectivity_with_nan(path, dtype, points):
    """A NaN is the peak of its unit and its point is named, the first of several; other units do not notice."""
    x = testing.randn(points, 21, dtype=dtype)
    places = {3: [points - 1], 4: [0], 5: [points // 2, points - 1], 20: list(range(points))}
    clean = selectivity(x.clone(), backend=path)
    for unit, bad in places.items():
        x[bad, unit] = torch.nan
    got = selectivity(x, backend=path)
    for unit in range(21):
        if unit in places:
            assert got.peak[unit].isnan()
            assert got.minimum[unit].isnan()
            assert got.index[unit] == min(places[unit])
            assert got.rest[unit].isnan() == (len(set(places[unit])) > 1)
        else:
            testing.assert_same_bits(got.peak[unit], clean.peak[unit])
            testing.assert_same_bits(got.rest[unit], clean.rest[unit])
            assert got.index[unit] == clean.index[unit]


@pytest.mark.parametrize("points", [2, 9, 65, 700])
def test_selectivity_with_infinities(path, dtype, points):
    x = testing.randn(points, 12, dtype=dtype)
    x[points - 1, 2] = torch.inf
    x[:, 3] = -torch.inf
    x[0, 4] = -torch.inf
    x[:, 5] = torch.inf
    got = selectivity(x, backend=path)
    peak, index, rest, low = reference.selectivity(x)
    assert (got.index == index).all()
    for name, a, b in (("peak", got.peak, peak), ("rest", got.rest, rest), ("low", got.minimum, low)):
        tolerance = torch.where(b.isfinite(), 1e-4, 0.0)
        testing.assert_within(a, testing.Expected(b, tolerance), a.dtype, name)


def test_dead_and_signed_units(path, dtype):
    """All zero, all -0, all negative, one negative: peak, low and rest tell them apart."""
    x = torch.zeros(40, 4, dtype=dtype)
    x[:, 1] = -0.0
    x[:, 2] = -1 - torch.arange(40).to(dtype)
    x[7, 3] = -2.0
    state = selectivity(x, backend=path)
    assert state.peak.tolist() == [0, 0, -1, 0]
    assert state.minimum.tolist() == [0, 0, -40, -2]
    assert state.index.tolist() == [0, 0, 0, 0]
    assert state.rest.tolist() == [0, 0, -819, -2]


def test_wide_sums_of_half_precision(path):
    """1000 values of 65504 pass float16's and 2^12 values of 2^115 bfloat16's range; their means do not."""
    x = torch.full((2, 3, 1000), 65504.0, dtype=torch.float16)
    assert (memkern.unit_means(x, backend=path) == 65504.0).all()
    x = torch.full((2, 3, 4096), 2.0**115, dtype=torch.bfloat16)
    assert (memkern.unit_means(x, backend=path) == 2.0**115).all()


def test_small_beside_large(path):
    """2^24 and then ones: a float32 running sum would ignore them all."""
    x = torch.ones(1, 2, 4096)
    x[:, :, 0] = 2.0**24
    want = (2.0**24 + 4095) / 4096
    for layout in ("contiguous", "channels last", "last dim outermost"):
        got = memkern.unit_means(testing.LAYOUTS[layout](x), backend=path)
        # eight terms are added in float32 first: at most 7 ones are lost beside 2^24
        torch.testing.assert_close(got, torch.full_like(got, want), rtol=8 / (2.0**24 + 4095), atol=0)
