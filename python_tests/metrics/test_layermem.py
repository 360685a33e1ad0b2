"""LayerMem of a layer: the mean of ratios, scalings, streaming in any split and order."""

import itertools
import math

import independent
import numpy as np
import pytest
import torch

import memkern
from python_tests.helpers.testing import DTYPES, assert_same_bits, forced_path, randn, relu_features, running_paths

PATHS = running_paths()
A_G, A_F = [0.9, 0.6, 0.5, 0.2], [0.3, 0.5, 0.6, 0.2]


@pytest.fixture(params=PATHS)
def backend(request):
    with forced_path(request.param) as name:
        yield name


def two_views(distances, dtype=torch.float64):
    """[N, 2, 1]: two views whose (raw) distance is known."""
    return torch.tensor([[[0.0], [distance]] for distance in distances], dtype=dtype)


def assert_same_stats(got, want):
    for name, a, b in zip(got._fields, got, want, strict=True):
        assert_same_bits(a, b, name)


# ---- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "value"), [("ratio", 0.125), ("none", 0.15), ("range", 0.6 / 0.7 / 4)])
def test_hand_worked_values(scale, value, backend):
    got = memkern.layermem(two_views(A_F), two_views(A_G), scale=scale, normalize=False, backend=backend)
    assert got.shape == ()
    np.testing.assert_allclose(got.item(), value, rtol=8 * np.finfo(np.float64).eps)


def test_the_default_is_the_mean_of_ratios_not_the_ratio_of_means(backend):
    got = memkern.layermem(two_views(A_F), two_views(A_G), normalize=False, backend=backend).item()
    assert abs(got - 0.125) < 1e-15
    assert abs(got - (sum(A_G) - sum(A_F)) / (sum(A_G) + sum(A_F))) > 0.03


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pairs", ["all", "anchor"])
def test_against_an_independent_computation(pairs, dtype, backend):
    z_f, z_g = relu_features(9, 4, 3, 5, dtype=dtype), randn(9, 4, 11, dtype=dtype)
    for scale in ("ratio", "none", "range"):
        a_f, a_g = (independent.alignment(z, pairs) for z in (z_f, z_g))
        each = independent.sslmem(a_f, a_g, scale)
        divisor = {"none": 1.0, "ratio": (a_f + a_g).min(), "range": np.ptp(a_g - a_f)}[scale]
        got = memkern.layermem(z_f, z_g, scale=scale, pairs=pairs, backend=backend)
        # as for sslmem: a few roundings of unit vectors' distances, divided
        independent.assert_close(got, each.mean(), 16, np.array(2 / divisor * (1 + np.abs(each).max())))
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_mean_over_points_is_taken_in_float64(backend):
    # A running float32 sum of 3000 thirds drifts by far more than one rounding.
    z_f, z_g = two_views([1.0] * 3000, torch.float32), two_views([2.0] * 3000, torch.float32)
    assert memkern.layermem(z_f, z_g, normalize=False, backend=backend).item() == torch.tensor(1 / 3).item()


def test_points_that_carry_nothing_count_as_zero(backend):
    got = memkern.layermem(two_views([0.0, 1.0]), two_views([0.0, 3.0]), normalize=False, backend=backend)
    assert got.item() == 0.25


def test_nan_and_no_points(backend):
    z = randn(3, 2, 4)
    broken = z.clone()
    broken[1, 0, 0] = torch.nan
    assert memkern.layermem(broken, z, backend=backend).isnan()
    with pytest.raises(ValueError, match="at least 1 point"):
        memkern.layermem(torch.ones(0, 2, 3), torch.ones(0, 2, 3), backend=backend)
    with pytest.raises(ValueError, match="at least 1 point"):
        memkern.LayerMem(backend=backend).compute()


def test_it_is_the_mean_of_sslmem(backend):
    z_f, z_g = randn(11, 3, 5), randn(11, 3, 6)
    for scale, pairs, normalize in itertools.product(("none", "ratio", "range"), ("all", "anchor"), (True, False)):
        options = {"scale": scale, "pairs": pairs, "normalize": normalize, "backend": backend}
        want = memkern.sslmem(z_f, z_g, **options).double().mean().float()
        assert_same_bits(memkern.layermem(z_f, z_g, **options), want)


def test_delta_of_a_list_of_layers(backend):
    layers = [memkern.layermem(randn(4, 2, n), randn(4, 3 - 1, n + 1), backend=backend) for n in (3, 5, 7)]
    delta = memkern.delta_layermem(layers)
    assert math.isnan(delta[0])
    assert delta[1:] == [layers[1].item() - layers[0].item(), layers[2].item() - layers[1].item()]


# ---- streaming ----------------------------------------------------------------------------------------------------


def test_default_ids_count_on():
    z_f, z_g = randn(5, 2, 3), randn(5, 2, 4)
    metric = memkern.LayerMem()
    for start, stop in ((0, 2), (2, 2), (2, 5)):
        metric.update(z_f[start:stop], z_g[start:stop])
    assert metric.count == 5
    assert metric.stats().ids.tolist() == [0, 1, 2, 3, 4]
    assert_same_bits(metric.stats().sslmem, memkern.sslmem(z_f, z_g, scale="ratio"))


def test_known_alignments_give_the_same_as_representations():
    z_f, z_g = randn(5, 2, 3, 4), randn(5, 2, 3, 4)
    one, two = memkern.LayerMem(), memkern.LayerMem()
    one.update(z_f, z_g, ids=[4, 1, 3, 0, 2])
    stats_f, stats_g = memkern.layer_stats(z_f), memkern.layer_stats(z_g)
    two.update_alignments(stats_f.alignment, stats_g.alignment, ids=[4, 1, 3, 0, 2])
    independent.assert_close(two.compute(), one.compute(), 16, np.array(1.0))
    assert two.stats().ids.tolist() == [0, 1, 2, 3, 4]


def test_a_refused_batch_leaves_the_state_alone():
    metric = memkern.LayerMem()
    metric.update(randn(3, 2, 4), randn(3, 2, 5))
    want = metric.stats()
    for ids in ([0, 1], [0.0, 1.0, 2.0], [[0], [1], [2]]):
        with pytest.raises((TypeError, ValueError), match="Expected `ids`"):
            metric.update(randn(3, 2, 4), randn(3, 2, 5), ids=ids)
    with pytest.raises(ValueError, match="Expected `z_f` and `z_g`"):
        metric.update(randn(3, 2, 4), randn(2, 2, 5))
    assert_same_stats(metric.stats(), want)
