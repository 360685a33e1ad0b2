"""SSLMem of points: hand-worked values through the public function, an independent computation, edge rules."""

import itertools

import independent
import numpy as np
import pytest
import torch

import memkern
from python_tests.helpers.testing import DTYPES, FAMILIES, LAYOUTS, assert_same_bits, forced_path, randn, running_paths

PATHS = running_paths()
EIGHTHS_G, EIGHTHS_F = (7, 5, 4, 2), (2, 4, 5, 2)  # in units of 1/8: exact in every dtype


@pytest.fixture(params=PATHS)
def backend(request):
    with forced_path(request.param) as name:
        yield name


def two_views(distances, dtype=torch.float64):
    """[N, 2, 1]: two views whose (raw) distance is known."""
    return torch.tensor([[[0.0], [distance]] for distance in distances], dtype=dtype)


@pytest.mark.parametrize(
    ("scale", "scores"),
    [
        ("none", [0.6, 0.1, -0.1, 0.0]),
        ("ratio", [0.5, 0.1 / 1.1, -0.1 / 1.1, 0.0]),
        ("range", [0.6 / 0.7, 0.1 / 0.7, -0.1 / 0.7, 0.0]),
    ],
)
def test_hand_worked_scores(scale, scores, backend):
    z_g, z_f = two_views([0.9, 0.6, 0.5, 0.2]), two_views([0.3, 0.5, 0.6, 0.2])
    got = memkern.sslmem(z_f, z_g, scale=scale, normalize=False, backend=backend)
    np.testing.assert_allclose(got.numpy(), scores, rtol=0, atol=4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hand_worked_scores_in_every_dtype(dtype, backend):
    z_g, z_f = (two_views(eighths, dtype) / 8 for eighths in (EIGHTHS_G, EIGHTHS_F))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for scale, scores in {"none": [5 / 8, 1 / 8, -1 / 8, 0], "ratio": [5 / 9, 1 / 9, -1 / 9, 0]}.items():
        got = memkern.sslmem(z_f, z_g, scale=scale, normalize=False, backend=backend)
        assert_same_bits(got, torch.tensor(scores, dtype=wide))


def test_unit_length_distance(backend):
    z_g = torch.tensor([[[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]]], dtype=torch.float64)
    got = memkern.sslmem(torch.ones_like(z_g), z_g, backend=backend)
    np.testing.assert_allclose(got.item(), np.sqrt(2 - 2 * 24 / 25), rtol=4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_against_an_independent_computation(family, dtype, backend):
    z_f, z_g = FAMILIES[family](6, 4, 3, 5, dtype=dtype), randn(6, 4, 11, dtype=dtype)  # the dims may differ
    for pairs, normalize, scale in itertools.product(("all", "anchor"), (True, False), ("none", "ratio", "range")):
        a_f, a_g = (independent.alignment(z, pairs, normalize) for z in (z_f, z_g))
        got = memkern.sslmem(z_f, z_g, pairs=pairs, normalize=normalize, scale=scale, backend=backend)
        want = independent.sslmem(a_f, a_g, scale)
        # A distance of unit vectors is off by a few roundings of 1, a raw one by a few of the norms; dividing by the
        # range or the sum passes that on.
        norms = [
            1.0 if normalize else np.sqrt((independent.as64(z) ** 2).sum((1, *range(2, z.ndim)))) for z in (z_f, z_g)
        ]
        spread = np.ptp(a_g - a_f)
        divisor = {"none": 1.0, "ratio": a_f + a_g, "range": spread}[scale]
        size = (norms[0] + norms[1]) / divisor * (1 + np.abs(want))
        size = np.max(size) if scale == "range" else size  # the extremes of the others divide, too
        independent.assert_close(got, want, 16, np.broadcast_to(size, want.shape), f"{pairs} {normalize} {scale}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_scores_of_the_contiguous_tensor(layout, backend):
    z_f, z_g = randn(5, 3, 4, 3, 2, dtype=torch.float64), randn(5, 3, 4, 2, 3, dtype=torch.float64)
    want = memkern.sslmem(z_f, z_g, backend=backend)
    got = memkern.sslmem(LAYOUTS[layout](z_f), LAYOUTS[layout](z_g), backend=backend)
    torch.testing.assert_close(got, want, rtol=0, atol=16 * torch.finfo(torch.float64).eps)


# ---- edge rules ---------------------------------------------------------------------------------------------------


def test_range_scaling_edges(backend):
    def scaled(differences):
        zeros = two_views([0.0] * len(differences))
        return memkern.sslmem(zeros, two_views(differences), scale="range", normalize=False, backend=backend).tolist()

    assert scaled([0.5, 0.75, 1.0]) == [1.0, 1.5, 2.0]
    assert scaled([0.0, 0.0]) == [0.0, 0.0]
    assert scaled([0.0]) == [0.0]
    assert np.isnan(scaled([0.5])).all()
    assert np.isnan(scaled([0.5, 0.5])).all()


def test_a_collapsed_encoder_pair_scores_zero(backend):
    collapsed = torch.ones(3, 4, 5)
    for scale in ("none", "ratio", "range"):
        assert memkern.sslmem(collapsed, collapsed, scale=scale, backend=backend).tolist() == [0, 0, 0]


def test_zero_vectors_are_a_distance_of_one_from_unit_vectors(backend):
    z_g = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    z_f = torch.zeros(2, 2, 7)
    assert memkern.sslmem(z_f, z_g, backend=backend).tolist() == [1, 0]


@pytest.mark.parametrize("scale", ["none", "ratio"])
def test_nan_stays_at_its_point(scale, backend):
    z_f, z_g = randn(4, 3, 5), randn(4, 3, 6)
    want = memkern.sslmem(z_f, z_g, scale=scale, backend=backend)
    z_f[2, 1, 3] = torch.nan
    got = memkern.sslmem(z_f, z_g, scale=scale, backend=backend)
    assert got.isnan().tolist() == [False, False, True, False]
    assert_same_bits(got[[0, 1, 3]], want[[0, 1, 3]])


@pytest.mark.parametrize("scale", ["none", "ratio", "range"])
def test_exchanging_the_encoders_turns_the_sign(scale, backend):
    z_f, z_g = randn(7, 3, 5), randn(7, 3, 6)
    assert torch.equal(
        memkern.sslmem(z_g, z_f, scale=scale, backend=backend), -memkern.sslmem(z_f, z_g, scale=scale, backend=backend)
    )


def test_no_points_give_no_scores(backend):
    for scale in ("none", "ratio", "range"):
        assert memkern.sslmem(torch.ones(0, 2, 3), torch.ones(0, 2, 3), scale=scale, backend=backend).shape == (0,)


def test_normalizing_removes_a_common_factor_and_raw_distances_keep_it(backend):
    z_f, z_g = randn(5, 3, 6, dtype=torch.float64), randn(5, 3, 6, dtype=torch.float64)
    unit = memkern.sslmem(z_f, z_g, backend=backend)
    assert_same_bits(memkern.sslmem(z_f * 4, z_g * 0.5, backend=backend), unit)
    raw = memkern.sslmem(z_f, z_g, normalize=False, backend=backend)
    assert_same_bits(memkern.sslmem(z_f * 4, z_g * 4, normalize=False, backend=backend), raw * 4)


# ---- several trainings ----------------------------------------------------------------------------------------------


def test_the_expectation_over_trainings_is_inside(backend):
    """f .1 and .7, g .9, .6 and .9: means .4 and .8; the mean of the six pairs' ratios would be another number."""
    z_f = [two_views([distance]) for distance in (0.1, 0.7)]
    z_g = tuple(two_views([distance]) for distance in (0.9, 0.6, 0.9))
    options = {"normalize": False, "backend": backend}
    assert memkern.sslmem(z_f, z_g, **options).item() == pytest.approx(0.4, rel=1e-15)
    ratio = memkern.sslmem(z_f, z_g, scale="ratio", **options).item()
    assert ratio == pytest.approx(0.4 / 1.2, rel=1e-15)
    pairs = [memkern.sslmem(f, g, scale="ratio", **options).item() for f in z_f for g in z_g]
    assert abs(np.mean(pairs) - ratio) > 0.05


@pytest.mark.parametrize("scale", ["none", "ratio", "range"])
def test_one_training_in_a_list_is_that_training(scale):
    z_f, z_g = randn(6, 3, 5), randn(6, 3, 7)
    want = memkern.sslmem(z_f, z_g, scale=scale)
    assert_same_bits(memkern.sslmem([z_f], (z_g,), scale=scale), want)
    assert_same_bits(memkern.sslmem([z_f], z_g, scale=scale), want)


def test_trainings_of_any_dims_order_and_kind():
    z_f, z_g = [randn(6, 3, dims) for dims in (5, 9, 2)], [randn(6, 3, dims) for dims in (4, 7)]
    want = memkern.sslmem(z_f, z_g)
    torch.testing.assert_close(memkern.sslmem(z_f[::-1], z_g[::-1]), want, rtol=0, atol=6e-8)
    got = memkern.sslmem([z.numpy() for z in z_f], [z.numpy() for z in z_g])
    assert isinstance(got, np.ndarray)
    assert (got == want.numpy()).all()


def test_gradient_of_trainings():
    z_f, z_g = [randn(2, 3, 5, dtype=torch.float64).requires_grad_() for _ in range(2)], randn(2, 3, 5).double()
    assert torch.autograd.gradcheck(lambda *z: memkern.sslmem(z, z_g, scale="ratio"), z_f)


def test_trainings_that_do_not_fit():
    z = randn(6, 3, 5)
    with pytest.raises(ValueError, match="Expected `z_g` to hold an array for each training, got an empty list"):
        memkern.sslmem(z, [])
    with pytest.raises(ValueError, match=r"Expected `z_f\[0\]` and `z_g\[1\]` to hold the same points and views"):
        memkern.sslmem([z], [z, z[:5]])
    with pytest.raises(TypeError, match=r"Expected `z_f\[1\]` to be float32, .* got int64"):
        memkern.sslmem([z, z.long()], z)
    with pytest.raises(TypeError, match=r"Expected `z_f\[1\]` to be a torch tensor"):
        memkern.sslmem([z, None], z)
    with pytest.raises(TypeError, match="to have one dtype"):
        memkern.sslmem([z, z.double()], z)


# ---- removal --------------------------------------------------------------------------------------------------------


def test_removal_score_by_hand():
    a_f, a_g = np.array([0.3, 0.5, 0.6, 0.2]), np.array([0.9, 0.6, 0.5, 0.2])
    got = memkern.removal_score(a_f, a_g)
    np.testing.assert_allclose(got, [1, -1 / 3, -8 / 9, -2 / 9], rtol=1e-14)
    order = memkern.removal_score(torch.tensor(a_f), torch.tensor(a_g)).argsort(descending=True)
    assert order.tolist() == [0, 3, 1, 2]


def test_removal_score_of_what_does_not_fit():
    a = torch.ones(3)
    with pytest.raises(ValueError, match="Expected `alignment_f` and `alignment_g` to have one shape"):
        memkern.removal_score(a, a[:2])
    with pytest.raises(ValueError, match="Expected `alignment_f` to hold at least 1 point, got 0"):
        memkern.removal_score(a[:0], a[:0])
    with pytest.raises(TypeError, match=r"Expected `alignment_g` to be float32, .* got int64"):
        memkern.removal_score(a, a.long())
