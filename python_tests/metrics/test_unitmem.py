"""UnitMem: hand-worked values, an independent computation, edge rules, and streaming in any split and order."""

import itertools

import independent
import numpy as np
import pytest
import torch

import memkern
from python_tests.helpers.testing import (
    DTYPES,
    LAYOUTS,
    assert_same_bits,
    forced_path,
    randn,
    relu_features,
    running_paths,
)

PATHS = running_paths()
MATRIX = torch.tensor([[0.0, 2, 1, 0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]])


@pytest.fixture(params=PATHS)
def backend(request):
    with forced_path(request.param) as name:
        yield name


# ---- hand-worked values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rest", "centre", "score"),
    [("mean", [1 / 3, 2, 13 / 3, 0], [0.92, 0, 0.35, 0]), ("median", [0, 2, 3, 0], [1, 0, 0.5, 0])],
)
def test_hand_worked_matrix(dtype, rest, centre, score, backend):
    stats = memkern.unitmem_stats(MATRIX.to(dtype), rest=rest, backend=backend)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert [part.dtype for part in stats[:4]] == [wide, wide, wide, torch.int64]
    torch.testing.assert_close(stats.score, torch.tensor(score, dtype=wide), rtol=2 * torch.finfo(wide).eps, atol=0)
    torch.testing.assert_close(stats.rest, torch.tensor(centre, dtype=wide), rtol=2 * torch.finfo(wide).eps, atol=0)
    assert stats.peak.tolist() == [8, 2, 9, 0]
    assert stats.index.tolist() == [3, 0, 2, 0]
    assert (stats.count, int(stats.n_dead), int(stats.n_signed), int(stats.n_undefined)) == (4, 1, 0, 0)
    assert torch.equal(memkern.unitmem(MATRIX.to(dtype), rest=rest, backend=backend), stats.score)


@pytest.mark.parametrize(
    ("column", "score", "undefined"),
    [([-3, -2, -1], -1.5 / 3.5, 0), ([-4, 1, 2], 7.0, 0), ([-2, -2, 4], 3.0, 0), ([-1, -1, 1], np.nan, 1)],
)
def test_signed_activations_keep_their_score_or_are_undefined(column, score, undefined, backend):
    stats = memkern.unitmem_stats(torch.tensor(column, dtype=torch.float64)[:, None], backend=backend)
    np.testing.assert_allclose(stats.score.item(), score, rtol=1e-15)
    assert (int(stats.n_signed), int(stats.n_undefined), int(stats.n_dead)) == (1, undefined, 0)


def test_opposite_signs_that_only_cancel_in_the_result_dtype_are_computed(backend):
    # peak + rest is 2^-30: zero in a float32 sum of rounded parts, but not zero.
    column = torch.tensor([[1.0], [-1.0 + 2.0**-30]], dtype=torch.float64)
    assert memkern.unitmem(column, backend=backend).item() == (2.0 - 2.0**-30) / 2.0**-30


def test_abs_and_relu_are_applied_before_averaging(backend):
    maps = torch.tensor([[[-4.0, 2.0]], [[-1.0, 1.0]]])  # 2 points, 1 unit, 2 positions
    assert memkern.unitmem_stats(maps, activation="raw", backend=backend).peak.tolist() == [0.0]
    assert memkern.unitmem_stats(maps, activation="relu", backend=backend).peak.tolist() == [1.0]
    assert memkern.unitmem_stats(maps, activation="abs", backend=backend).peak.tolist() == [3.0]


# ---- an independent computation -----------------------------------------------------------------------------------

SHAPES = {  # shape, view_dim, unit_dim, the unit dimension that is meant
    "matrix": ((9, 5), None, None, 1),
    "maps": ((7, 6, 3, 5), None, None, 1),
    "tokens": ((6, 7, 10), None, -1, 2),
    "views and maps": ((5, 3, 4, 3, 2), 1, None, 2),
    "views last": ((5, 4, 3, 2), -1, None, 1),
    "views and tokens": ((4, 2, 7, 5), 1, -1, 3),
    "one unit": ((5, 1, 4), None, None, 1),
    "two points": ((2, 3, 4), None, None, 1),
}


@pytest.mark.parametrize("make", [randn, relu_features], ids=["signed", "rectified"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_an_independent_computation(shape, dtype, make, backend):
    sizes, view_dim, unit_dim, unit = SHAPES[shape]
    data = make(*sizes, dtype=dtype)
    averaged = data[0].numel() // sizes[unit]
    options = {"view_dim": view_dim, "unit_dim": unit_dim, "backend": backend}
    layouts = itertools.product(LAYOUTS, ["mean"], ["raw"])
    choices = itertools.product(["contiguous", "channels last"], ["mean", "median"], ["raw", "relu", "abs"])
    for layout, rest, activation in dict.fromkeys([*layouts, *choices]):
        stats = memkern.unitmem_stats(LAYOUTS[layout](data), rest=rest, activation=activation, **options)
        means = independent.unit_means(data, unit, activation)
        score, peak, centre, index = independent.selectivity(means, rest)
        what = f"{layout}, {rest}, {activation}"
        # A mean of n elements is off by n roundings of the mean magnitude at worst; the score by its derivative.
        size = independent.unit_means(data, unit, "abs").max(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            steepness = np.where(peak + centre == 0, 0, 2 * (np.abs(peak) + np.abs(centre)) / (peak + centre) ** 2)
        independent.assert_close(stats.peak, peak, averaged + 2, size, what)
        independent.assert_close(stats.rest, centre, averaged + 2, size, what)
        independent.assert_close(stats.score, score, averaged + 4, size * steepness + np.abs(score), what)
        assert stats.index.tolist() == index.tolist(), what
        assert int(stats.n_signed) == (means.min(0) < 0).sum(), what


# ---- edge rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [0, 1])
def test_fewer_than_two_points_is_an_error(points, backend):
    with pytest.raises(ValueError, match="at least 2 points"):
        memkern.unitmem(torch.ones(points, 3), backend=backend)
    metric = memkern.UnitMem(backend=backend)
    metric.update(torch.ones(points, 3))
    with pytest.raises(ValueError, match="at least 2 points"):
        metric.compute()


def test_dead_units_score_zero_and_are_counted(backend):
    x = torch.zeros(5, 4, 2)
    x[:, 1] = 1.0
    x[0, 3] = -0.0
    stats = memkern.unitmem_stats(x, backend=backend)
    assert stats.score.tolist() == [0, 0, 0, 0]
    assert int(stats.n_dead) == 3
    assert int(stats.n_signed) == 0


def test_a_unit_that_is_zero_at_most_is_not_dead(backend):
    stats = memkern.unitmem_stats(torch.tensor([[0.0], [-1.0]]), backend=backend)
    assert int(stats.n_dead) == 0
    assert int(stats.n_signed) == 1
    assert stats.score.item() == -1.0


@pytest.mark.parametrize("rest", ["mean", "median"])
def test_nan_stays_in_its_unit_and_is_counted(rest, backend):
    x = MATRIX.clone()
    x[1, 0] = x[3, 0] = torch.nan
    stats = memkern.unitmem_stats(x, rest=rest, backend=backend)
    assert stats.score.isnan().tolist() == [True, False, False, False]
    assert stats.peak.isnan().tolist() == [True, False, False, False]
    assert stats.index.tolist() == [1, 0, 2, 0]  # the first NaN
    assert int(stats.n_undefined) == 1


def test_infinite_peak_is_undefined_and_counted(backend):
    stats = memkern.unitmem_stats(torch.tensor([[1.0], [torch.inf], [2.0]]), backend=backend)
    assert stats.peak.item() == torch.inf
    assert stats.index.item() == 1
    assert int(stats.n_undefined) == 1


def test_ties_take_the_lowest_id_in_any_order_of_points(backend):
    x = torch.tensor([[1.0], [5.0], [5.0], [0.0], [5.0]])
    ids = torch.tensor([8, 9, 3, 0, 7])
    for order in itertools.permutations(range(5)):
        stats = memkern.unitmem_stats(x[list(order)], ids=ids[list(order)], backend=backend)
        assert stats.index.item() == 3
        assert stats.rest.item() == 11 / 4  # exactly one of the three maxima is left out


def test_compat_scripts_is_the_median(backend):
    assert_same_bits(
        memkern.unitmem(MATRIX, compat="scripts", backend=backend),
        memkern.unitmem(MATRIX, rest="median", backend=backend),
    )


# ---- streaming ----------------------------------------------------------------------------------------------------


def assert_same_stats(got, want):
    for name, a, b in zip(got._fields, got, want, strict=True):
        if isinstance(a, torch.Tensor):
            assert_same_bits(a, b, name)
        else:
            assert a == b, name


def test_streamed_floats_agree_to_the_rounding_of_float64(backend):
    x = relu_features(200, 3, dtype=torch.float32)
    want = memkern.unitmem_stats(x, backend=backend)
    metric = memkern.UnitMem(backend=backend)
    for batch in x.split(17):
        metric.update(batch)
    got = metric.stats()
    assert_same_bits(got.peak, want.peak)
    assert got.index.tolist() == want.index.tolist()
    independent.assert_close(got.rest, want.rest, 1)  # float64 sums, rounded once
    independent.assert_close(got.score, want.score, 1)


@pytest.mark.parametrize("rest", ["mean", "median"])
def test_nan_in_one_batch_survives_every_merge(rest, backend):
    parts = [torch.tensor([[1.0], [2.0]]), torch.tensor([[torch.nan], [9.0]]), torch.tensor([[5.0], [torch.nan]])]
    for order in itertools.permutations(range(3)):
        metric = memkern.UnitMem(rest=rest, backend=backend)
        for place in order:
            metric.update(parts[place], ids=[2 * place, 2 * place + 1])
        stats = metric.stats()
        assert torch.isnan(stats.score).all()
        assert stats.index.item() == 2
        assert int(stats.n_undefined) == 1


def test_default_ids_count_on_and_empty_batches_change_nothing(backend):
    metric = memkern.UnitMem(backend=backend)
    for batch in (MATRIX[:0], MATRIX[:1], MATRIX[:0], MATRIX[1:2], MATRIX[2:]):
        metric.update(batch)
    assert metric.count == 4
    assert_same_stats(metric.stats(), memkern.unitmem_stats(MATRIX, backend=backend))


@pytest.mark.parametrize("rest", ["mean", "median"])
def test_a_refused_batch_leaves_the_state_alone(rest):
    metric = memkern.UnitMem(rest=rest)
    metric.update(MATRIX)
    want = metric.stats()
    for bad, kind in (
        (torch.ones(2, 3), ValueError),
        (MATRIX.double(), TypeError),
        (torch.ones(2, 4).int(), TypeError),
    ):
        with pytest.raises(kind):
            metric.update(bad)
        assert_same_stats(metric.stats(), want)
    other = memkern.UnitMem(rest=rest)
    other.update(torch.ones(2, 3))
    with pytest.raises(ValueError, match="4 units"):
        metric.merge(other)
    assert_same_stats(metric.stats(), want)


def test_state_does_not_grow_with_the_points():
    metric = memkern.UnitMem()
    sizes = []
    for batch in relu_features(64, 5).split(16):
        metric.update(batch)
        sizes.append(sum(value.numel() for value in metric.state_dict().values()))
    assert len(set(sizes)) == 1
