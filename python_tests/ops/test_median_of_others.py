"""Median of the others, on every path: a selection, so it equals the sorted reference to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memkern import reference, scores
from memkern.ops.median_of_others import median_of_others
from python_tests.helpers import testing

POINTS = [2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 100, 255, 256, 257, 999, 1000, 1001, 5000]
UNITS = [1, 3, 16, 33]
WIDE = [torch.float32, torch.float64]


def check(means: Tensor, path: str, what: object = "") -> None:
    """The mean of two middle values is exact in float64; rounded once it is what float32 must give."""
    want = reference.median_of_others(means).to(means.dtype)
    testing.assert_same_bits(median_of_others(means, backend=path) + 0.0, want + 0.0, (tuple(means.shape), what))


@pytest.fixture(params=WIDE, ids=["float32", "float64"])
def wide(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("points", POINTS)
def test_points(kernel, points, wide):
    for units in UNITS:
        check(testing.randn(points, units, dtype=wide), kernel)


@pytest.mark.parametrize("units", [1, 2, 7, 8, 9, 15, 17, 31, 63, 64, 65, 100, 129, 513])
def test_units(kernel, units, wide):
    """Columns are handled in blocks: every remainder, and each column gets its own median."""
    for points in (2, 5, 130):
        check(testing.randn(points, units, dtype=wide) + torch.arange(units, dtype=wide), kernel)


def hard_columns(points: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Columns that selection algorithms stumble over."""
    ramp = torch.arange(points, dtype=dtype)
    noise = testing.randn(points, dtype=dtype)
    mostly_zero = noise.relu() * (torch.arange(points) % 5 == 0)
    one_spike = torch.zeros(points, dtype=dtype)
    one_spike[points // 3] = 1
    return {
        "all equal": torch.full_like(ramp, 3.0),
        "all zero": torch.zeros_like(ramp),
        "zeros of both signs": torch.where(torch.arange(points) % 2 == 0, 0.0, -0.0).to(dtype),
        "mostly zeros": mostly_zero,
        "one spike": one_spike,
        "sorted": ramp,
        "sorted down": -ramp,
        "organ pipe": torch.minimum(ramp, points - ramp),
        "two values": (torch.arange(points) % 2).to(dtype),
        "few values": (torch.arange(points) * 7 % 5).to(dtype),
        "peak twice": ramp.clamp_max(points - 2),
        "negative": -noise.abs() - 1,
        "tiny": noise * torch.finfo(dtype).smallest_normal,
        "subnormal": noise * torch.finfo(dtype).smallest_normal * 1e-3,
        "huge": noise.sign() * torch.finfo(dtype).max / 4 * (1 + noise.abs() / 10),
        "wide range": noise * 10.0 ** (noise * 8),
        "plus infinity": torch.where(torch.arange(points) % 3 == 0, torch.inf, noise),
        "minus infinity": torch.where(torch.arange(points) % 3 == 0, -torch.inf, noise),
        "one infinity": torch.where(torch.arange(points) == points // 2, torch.inf, noise),
    }


@pytest.mark.parametrize("points", [2, 3, 4, 7, 8, 40, 101, 999, 1000, 1001, 5000])
def test_hard_columns(kernel, points, wide):
    columns = hard_columns(points, wide)
    both = torch.stack(list(columns.values()), 1)
    check(both, kernel, list(columns))
    for name, column in columns.items():
        check(column[:, None], kernel, name)


def test_misleading_samples(kernel):
    """A column's window is guessed from a sample of it, and one column in 2000 misses: 8000 columns meet some."""
    check(testing.randn(600, 8000), kernel)


@pytest.mark.parametrize("points", [600, 601, 1000, 1001])
def test_a_floor_that_is_a_middle_value(kernel, points, wide):
    """Half of the others are one value, the rest lie above it: the middle values are on both sides of its edge."""
    for equal in range(points // 2 - 2, points // 2 + 3):
        means = testing.randn(points, 33, dtype=wide).abs() + 1
        means[:equal] = -1
        check(means[permutation(points)], kernel, equal)


def permutation(points: int) -> Tensor:
    return torch.randperm(points, generator=testing.rng("permutation", points))


@pytest.mark.parametrize("points", [2, 3, 8, 101, 1000, 5000])
def test_nan_makes_its_column_nan_and_no_other(path, points, wide):
    for place in {0, 1, points // 2, points - 1}:
        means = testing.randn(points, 37, dtype=wide)
        means[place, 5] = torch.nan
        means[:, 36] = torch.nan
        check(means, path, place)
        assert median_of_others(means, backend=path).isnan().nonzero().flatten().tolist() == [5, 36]


def test_memory_layouts(path, wide):
    means = testing.randn(50, 20, dtype=wide)
    want = median_of_others(means, backend=path)
    for name, layout in testing.LAYOUTS.items():
        testing.assert_same_bits(median_of_others(layout(means), backend=path), want, name)


def test_input_is_left_alone(path, wide):
    means = testing.randn(999, 20, dtype=wide)
    before = means.clone()
    median_of_others(means, backend=path)
    testing.assert_same_bits(means, before)


def test_order_of_points_does_not_matter(path, wide):
    means = testing.randn(333, 9, dtype=wide)
    order = torch.randperm(333, generator=testing.rng("order"))
    testing.assert_same_bits(median_of_others(means[order], backend=path), median_of_others(means, backend=path))


def test_hand_worked(path, wide):
    """Spec 1.9, median variant: others [0, 2, 3, 0], UnitMem [1, 0, 0.5, dead]."""
    means = torch.tensor([[0, 2, 1, 0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]], dtype=wide)
    others = median_of_others(means, backend=path)
    assert others.tolist() == [0, 2, 3, 0]
    assert scores.selectivity_score(means.amax(0), others).tolist() == [1, 0, 0.5, 0]


def test_even_number_of_others(path, wide):
    """Five points, four others: the mean of the two middle ones."""
    means = torch.tensor([5.0, 1.0, 4.0, 2.0, 9.0], dtype=wide)[:, None]
    assert median_of_others(means, backend=path).tolist() == [3.0]


def test_no_units(path, wide):
    assert median_of_others(torch.empty(5, 0, dtype=wide), backend=path).shape == (0,)
