"""The Triton unit means, selectivity, class sums and medians against the float64 references."""

from __future__ import annotations

import functools

import pytest
import torch
from support import on_cpu, on_device, shape_name
from torch import Tensor

from memkern import reference
from memkern.triton_kernels import class_sums, launches, median_of_others, selectivity, unit_means
from memkern.triton_kernels.launches import setting
from memkern.triton_kernels.memory import accumulate_dtype
from python_tests.helpers import testing

nan, inf = torch.nan, torch.inf

# ---- unit_means ---------------------------------------------------------------------------------------------------


def check_means(x: Tensor, unit_dim: int, activation: str = "raw", memory: Tensor | None = None) -> None:
    options = {"unit_dim": unit_dim, "activation": activation}
    want = testing.expected(
        functools.partial(reference.unit_means, **options),
        functools.partial(testing.plain_unit_means, **options),
        x,
        scale=lambda x: reference.unit_means(x.abs(), unit_dim=unit_dim),  # terms cancel
    )
    got = on_cpu(unit_means.unit_means(on_device(x if memory is None else memory), unit_dim, activation))
    testing.assert_within(got, want, accumulate_dtype(x.dtype), (tuple(x.shape), unit_dim, activation))


@pytest.mark.parametrize(
    ("shape", "unit_dim"),
    [
        ((3, 5), 1),  # a matrix
        ((2, 1300), 1),  # wider than a tile
        ((2, 2, 5, 7, 7), 2),  # small maps
        ((1, 3, 2, 20, 20), 2),  # maps of more than one block
        ((2, 3, 5, 11), 3),  # tokens
        ((1, 5, 4, 3, 2, 2, 3), 3),  # averaged dimensions on both sides
        ((2, 4, 1), 2),  # one unit
    ],
    ids=shape_name,
)
def test_means_shapes(shape, unit_dim):
    check_means(testing.randn(*shape), unit_dim)


def test_means_dtypes(dtype):
    for activation in ("raw", "relu", "abs"):
        check_means(testing.randn(2, 3, 5, 20, dtype=dtype), 2, activation)


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_means_layouts(layout):
    x = testing.randn(3, 2, 4, 3, 5)
    check_means(x, 2, memory=testing.LAYOUTS[layout](x))


def test_means_of_any_order_of_memory():
    """Averaged dimensions between and around units and points."""
    x = testing.randn(2, 3, 2, 3, 2)
    for order in [(3, 0, 4, 2, 1), (2, 1, 0, 4, 3), (4, 0, 3, 2, 1), (1, 0, 3, 2, 4)]:
        check_means(x, 2, memory=testing.in_order(x, *order))


@pytest.mark.parametrize("loops", [4, 5], ids=["as it is", "copied"])
def test_means_of_many_loops(loops):
    """Averaged dimensions with a gap in each, so that no two are one loop."""
    x = testing.randn(2, 3, *(2, 3, 2, 3, 2)[:loops])
    memory = torch.full([2, 3, *(size + 1 for size in x.shape[2:])], nan)[(..., *[slice(-1)] * loops)]
    check_means(x, 1, memory=memory.copy_(x))


def test_means_of_points_side_by_side():
    x = testing.randn(40, 3, 6)
    check_means(x, 1, memory=testing.in_order(x, 1, 2, 0))


def test_means_in_parts(monkeypatch):
    """More blocks per lane than one program adds; also not a multiple."""
    monkeypatch.setitem(launches._VALUES, ("unit_means", "blocks"), 4)
    check_means(testing.randn(1, 3, 8 * setting("unit_means", "side") + 300).abs(), 1)  # 5 blocks
    check_means(testing.randn(2, 5000, 2).abs(), 2)


@pytest.mark.numbers
@pytest.mark.parametrize("constant", [0.1, 3e-30, 1e30])
def test_mean_of_a_constant_is_that_constant(constant):
    x = torch.full((2, 3, 997), constant)
    assert (on_cpu(unit_means.unit_means(on_device(x), 1, "raw")) == x[:, :, 0]).all()


@pytest.mark.numbers
def test_means_non_finite():
    x = testing.randn(2, 3, 2, 9)
    x[0, 1, 0, 3], x[1, 0, 1, 2], x[1, 2, 0, 0] = nan, inf, -inf
    for activation in ("raw", "relu", "abs"):
        check_means(x, 2, activation)


def test_means_of_nothing():
    assert on_cpu(unit_means.unit_means(on_device(torch.empty(0, 3, 4)), 1, "raw")).shape == (0, 3)
    assert on_cpu(unit_means.unit_means(on_device(torch.empty(2, 0, 4)), 1, "raw")).shape == (2, 0)


# ---- selectivity --------------------------------------------------------------------------------------------------


def check_state(x: Tensor, unit_dim: int = 1, activation: str = "raw", order: Tensor | None = None) -> None:
    got = selectivity.selectivity(on_device(x), unit_dim, activation, None if order is None else on_device(order))
    peak, index, rest, low = on_cpu(got)
    visited = x if order is None else x[order]
    want = reference.selectivity(visited, unit_dim=unit_dim, activation=activation)
    eps = torch.finfo(accumulate_dtype(x.dtype)).eps
    torch.testing.assert_close(peak.double(), want[0], rtol=4 * eps, atol=4 * eps, equal_nan=True)
    assert torch.equal(index, want[1])
    torch.testing.assert_close(rest, want[2], rtol=4 * eps, atol=4 * eps * len(x), equal_nan=True)
    torch.testing.assert_close(low.double(), want[3], rtol=4 * eps, atol=4 * eps, equal_nan=True)
    assert (peak.dtype, index.dtype, rest.dtype, low.dtype) == (
        accumulate_dtype(x.dtype),
        torch.int64,
        torch.float64,
        accumulate_dtype(x.dtype),
    )


@pytest.mark.numbers
@pytest.mark.parametrize("lanes", [32, 128])
def test_state_hazards(lanes, monkeypatch):
    """Ties, NaN (one, two, first, last), infinities, signed zeros: a column each; a lane sees many rows, or one."""
    monkeypatch.setitem(launches._VALUES, ("selectivity", "lanes"), lanes)
    columns = [
        [0.0, 3.0, 2.0, 3.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, nan, 5.0, nan, 0.0],
        [nan, 1.0, 2.0, 0.0, 3.0],
        [1.0, 2.0, 0.0, 3.0, nan],
        [-inf, -inf, -inf, -inf, -inf],
        [inf, 1.0, inf, 0.0, 2.0],
        [-3.0, -1.0, -2.0, -1.0, -5.0],
        [0.0, -0.0, 0.0, -0.0, 0.0],
        [inf, nan, -inf, 0.0, 1.0],
    ]
    x = torch.tensor(columns).t().contiguous()
    check_state(x)
    check_state(x.repeat_interleave(2, 0))


def test_state_over_chunks(monkeypatch):
    """More points than a program visits: ties and NaN across chunks go to the earlier position."""
    chunk = 64
    monkeypatch.setitem(launches._VALUES, ("selectivity", "chunk"), chunk)
    x = testing.randn(2 * chunk + 3, 5, dtype=torch.float64)
    x[[7, chunk + 1, 2 * chunk + 2], 1] = 9
    x[[chunk + 5, 2 * chunk + 1], 2] = nan
    x[[7, 9, 17, 33], 4] = 9  # in one chunk: a row further, lanes that come first have later points
    x[2 * chunk + 2, 3] = 11
    check_state(x)


def test_state_in_another_order(dtype):
    x = testing.randn(20, 3, dtype=dtype)
    x[4], x[11] = 50, 50
    check_state(x, order=torch.randperm(20, generator=testing.rng("order")), activation="abs")


@pytest.mark.parametrize("layout", ["gapped", "misaligned", "reversed"])
def test_state_layouts(layout):
    check_state(testing.LAYOUTS[layout](testing.randn(9, 5)))


def test_state_of_activations():
    check_state(testing.randn(3, 2, 4, 3, 5), unit_dim=2, activation="relu")
    check_state(testing.randn(4, 1, 3), unit_dim=2)


def test_state_of_more_units_than_a_tile():
    check_state(testing.randn(2, setting("selectivity", "side") + 1))


# ---- class_sums, median_of_others ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("units", [1, 6, 130])
def test_class_sums(dtype, units):
    means = testing.randn(60, units, dtype=dtype)
    labels = torch.randint(0, 4, (60,), generator=testing.rng("labels"))
    labels[labels == 2] = 3  # a class without points, one of more rows than a tile
    got = on_cpu(class_sums.class_sums(on_device(means), on_device(labels), 5))
    torch.testing.assert_close(got, reference.class_sums(means, labels, classes=5), rtol=1e-14, atol=1e-14)
    assert (got[2] == 0).all()
    assert (got[4] == 0).all()


@pytest.mark.numbers
def test_class_sums_keeps_nan_in_its_class():
    means, labels = testing.randn(6, 3), torch.tensor([0, 1, 0, 1, 2, 2])
    means[3, 1] = nan
    got = on_cpu(class_sums.class_sums(on_device(means), on_device(labels), 3))
    assert torch.equal(got.isnan(), torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]]).bool())


@pytest.mark.numbers
@pytest.mark.parametrize("points", [2, 3, 4, 5, 100])
def test_median_of_others(points):
    means = testing.randn(points, 5)
    means[:, 1] = 3
    means[0, 2], means[points - 1, 3], means[0, 4] = nan, inf, -inf
    got = on_cpu(median_of_others.median_of_others(on_device(means)))
    want = reference.median_of_others(means)
    torch.testing.assert_close(got, want.float(), rtol=0, atol=0, equal_nan=True)
