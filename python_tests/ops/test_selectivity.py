"""Selectivity state straight from activations, on every path against the float64 reference."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from memkern import native, reference, scores
from memkern.ops.selectivity import SelectivityState, selectivity
from python_tests.helpers import testing

# One chunk of (256) points, the edge of one, and several.
POINTS = [1, 2, 3, 7, 8, 9, 16, 17, 65, 255, 256, 257, 511, 512, 513, 1000]
UNITS = [1, 2, 7, 8, 9, 15, 16, 17, 33, 64, 257]


@functools.lru_cache(maxsize=1024)
def case(shape: tuple[int, ...], dtype: torch.dtype, unit_dim: int, activation: str):
    x = testing.randn(*shape, dtype=dtype)
    options = {"unit_dim": unit_dim, "activation": activation}
    return x, testing.expected_unit_means(x, **options), reference.selectivity(x, **options)


def check(
    path: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    unit_dim: int = 1,
    activation: str = "raw",
    layout: Callable[[Tensor], Tensor] = Tensor.contiguous,
) -> None:
    wide = native.accumulate_dtype(dtype)
    x, means, (peak, index, rest, low) = case(shape, dtype, unit_dim, activation)
    got = selectivity(layout(x), unit_dim=unit_dim, activation=activation, backend=path)
    what = (shape, unit_dim, activation)
    units = torch.arange(len(index))
    slack = means.tolerance.amax(0) + means.oracle.abs().amax(0) * torch.finfo(wide).eps / 2
    testing.assert_within(got.peak, testing.Expected(peak, slack), wide, (what, "peak"))
    testing.assert_within(got.minimum, testing.Expected(low, slack), wide, (what, "low"))
    # Two means closer than their rounding errors may change places; the point named must be one of them.
    assert not (~(means.oracle[got.index, units] >= peak - 2 * slack)).any(), (what, "index")
    assert (got.index == index).sum() >= 0.9 * len(index), (what, "index")
    same = got.index == index
    sums = testing.Expected(rest[same], (means.tolerance + means.oracle.abs() * torch.finfo(wide).eps).sum(0)[same])
    testing.assert_within(got.rest[same], sums, torch.float64, (what, "rest"))
    assert got.index.dtype == torch.int64
    assert got.count == shape[0]


@pytest.mark.parametrize("points", POINTS)
def test_points(kernel, points, dtype):
    for units in (1, 5, 33):
        check(kernel, (points, units), dtype)


@pytest.mark.parametrize("units", UNITS)
def test_units(kernel, units, dtype):
    for points in (2, 21, 130):
        check(kernel, (points, units), dtype)


@pytest.mark.parametrize("activation", ["raw", "relu", "abs"])
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_layouts(kernel, layout, dtype, activation):
    for shape, unit_dim in (((21, 2, 9, 3, 4), 2), ((10, 33, 4), 1), ((19, 5, 17), 2), ((23, 6), 1)):
        check(kernel, shape, dtype, unit_dim, activation, testing.LAYOUTS[layout])


def test_units_past_one_block(path, dtype):
    check(path, (11, 2, 4099), dtype, unit_dim=2)


@pytest.mark.parametrize("given", [(1, 6, 4), (30, 1, 4), (30, 6, 1)], ids=str)
def test_expanded(path, given, dtype):
    x = testing.randn(*given, dtype=dtype).expand(30, 6, 4)
    got = selectivity(x, backend=path)
    if given[0] == 1:  # every point ties: the first one is named, the others are the rest
        assert (got.index == 0).all()
        testing.assert_same_bits(got.peak, got.minimum)
    means = testing.expected_unit_means(x.contiguous())
    peak, index, rest, _ = reference.selectivity(x)
    assert (got.index == index).all()
    testing.assert_within(
        got.peak, testing.Expected(peak, means.tolerance.amax(0)), native.accumulate_dtype(dtype), given
    )
    slack = means.tolerance.sum(0) + rest.abs() * torch.finfo(native.accumulate_dtype(dtype)).eps
    testing.assert_within(got.rest, testing.Expected(rest, slack), torch.float64, given)


def small_integers(points: int, units: int, dtype: torch.dtype) -> Tensor:
    """Values -3 .. 3: exact in every dtype and order of summation, and full of ties."""
    return torch.randint(-3, 4, (points, units), generator=testing.rng("ties", points, units)).to(dtype)


@pytest.mark.parametrize("points", [2, 9, 65, 256, 257, 900])
def test_ties_take_the_lowest_position(path, points, dtype):
    x = small_integers(points, 37, dtype)
    got = selectivity(x, backend=path)
    peak, index, rest, low = reference.selectivity(x)
    assert (got.index == index).all()
    assert (got.index == (x == x.amax(0)).int().argmax(0)).all()
    assert (got.rest == rest).all()
    assert (got.peak == peak).all()
    assert (got.minimum == low).all()


@pytest.mark.parametrize("points", [2, 9, 65, 256, 257, 900])
def test_ties_take_the_lowest_id(path, points, dtype):
    """Ids in no order and with gaps: of equal means the lowest id is named, wherever it stands."""
    x = small_integers(points, 37, dtype)
    ids = 10 + 7 * torch.randperm(points, generator=testing.rng("ids", points))
    got = selectivity(x, ids=ids, backend=path)
    want = torch.where(x == x.amax(0), ids[:, None], torch.iinfo(torch.int64).max).amin(0)
    assert (got.index == want).all()
    assert (got.rest == x.double().sum(0) - x.double().amax(0)).all()


@pytest.mark.parametrize("shape", [(700, 19), (300, 4, 9), (40, 17, 3, 3)], ids=str)
def test_points_in_any_order_give_the_same_bits(path, shape, dtype):
    x = testing.randn(*shape, dtype=dtype)
    ids = torch.arange(shape[0]) * 3 + 5
    want = selectivity(x, ids=ids, backend=path)
    for seed in range(3):
        order = torch.randperm(shape[0], generator=testing.rng("order", seed))
        got = selectivity(x[order], ids=ids[order], backend=path)
        for name, a, b in zip(want._fields[:4], got, want, strict=False):
            testing.assert_same_bits(a, b, (name, seed))
    plain = selectivity(x, backend=path)
    assert (want.index == plain.index * 3 + 5).all()
    testing.assert_same_bits(want.rest, plain.rest)


def test_duplicate_ids(path):
    """A point given twice counts twice; one copy is the peak, the other one of the rest."""
    x = torch.tensor([[1.0], [5.0], [5.0]])
    state = selectivity(x, ids=torch.tensor([4, 9, 9]), backend=path)
    assert (state.peak.item(), state.index.item(), state.rest.item(), state.count) == (5, 9, 6, 3)


def test_exactly_one_copy_of_the_peak_is_left_out(path, dtype):
    x = torch.full((70, 3), 2.0, dtype=dtype)
    state = selectivity(x, backend=path)
    assert state.rest.tolist() == [138.0] * 3
    assert state.index.tolist() == [0] * 3


def test_rest_is_summed_directly(path):
    """total - peak would lose the others beside a peak of 2^60."""
    x = torch.full((100, 5), 1.0, dtype=torch.float64)
    x[50] = 2.0**60
    assert selectivity(x, backend=path).rest.tolist() == [99.0] * 5


def test_hand_worked(path, dtype):
    """Spec 1.9, mean variant: others [1/3, 2, 13/3, 0], UnitMem [0.92, 0, 0.35, dead]."""
    means = torch.tensor([[0, 2, 1, 0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]], dtype=dtype)
    state = selectivity(means, backend=path)
    assert state.peak.tolist() == [8, 2, 9, 0]
    assert state.index.tolist() == [3, 0, 2, 0]
    assert state.rest.tolist() == [1, 6, 13, 0]
    assert state.minimum.tolist() == [0, 2, 1, 0]
    score = scores.selectivity_score(state.peak, state.rest / (state.count - 1))
    assert score.tolist() == pytest.approx([0.92, 0, 0.35, 0], abs=1e-15)


@pytest.mark.parametrize(
    ("column", "score"), [((-3, -2, -1), -3 / 7), ((-4, 1, 2), 7.0), ((-2, -2, 4), 3.0), ((-1, -1, 1), torch.nan)]
)
def test_hand_worked_signed(path, dtype, column, score):
    """Spec 1.9, negative values; a zero denominator that is not a dead unit is undefined (section 2), so NaN."""
    state = selectivity(torch.tensor(column, dtype=dtype)[:, None], backend=path)
    got = scores.selectivity_score(state.peak, state.rest / 2).item()
    assert got == pytest.approx(score, nan_ok=True)
    assert state.minimum.item() == min(column)


def test_state_is_a_named_tuple(path):
    state = selectivity(torch.ones(2, 3), backend=path)
    assert isinstance(state, SelectivityState)
    assert (state.peak.dtype, state.index.dtype, state.rest.dtype) == (torch.float32, torch.int64, torch.float64)
