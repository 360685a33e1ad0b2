"""`compat="scripts"` against the published procedure, written here a second time from its description.

What is followed: the un-augmented image is compared with each view; every representation is flattened and brought to
unit length; a score is the difference of the two mean distances, divided by the range of all scores; a unit's centre is
the median of its sorted means without the last one. What is not followed, being defects: token shuffles, batch norm in
train mode, a list of means that is never cleared.
"""

import independent
import numpy as np
import pytest
import torch

import memkern
from python_tests.helpers.testing import DTYPES, forced_path, randn, relu_features, running_paths

EPS = np.finfo(np.float32).eps


@pytest.fixture(params=running_paths())
def backend(request):
    with forced_path(request.param) as name:
        yield name


def published_scores(clean_f, views_f, clean_g, views_g):
    """Scores per point from lists of arrays: clean_h[i] is one representation, views_h[i] a list of them."""

    def unit(vector):
        vector = vector.astype(np.float64).reshape(-1)
        return vector / max(np.linalg.norm(vector), 1e-12)

    def mean_distance(clean, views):
        running = 0.0
        for seen, view in enumerate(views):
            running = (running * seen + np.linalg.norm(unit(clean) - unit(view))) / (seen + 1)
        return running

    score = np.array(
        [
            mean_distance(b, views_b) - mean_distance(a, views_a)
            for a, views_a, b, views_b in zip(clean_f, views_f, clean_g, views_g, strict=True)
        ]
    )
    return score / (score.max() - score.min())


def published_selectivity(rows):
    """Selectivity per unit from one mean activation per point and unit."""
    ordered = np.sort(rows.astype(np.float64), axis=0)
    largest, others = ordered[-1], np.median(ordered[:-1], axis=0)
    return (largest - others) / (largest + others)


def published_unit_means(views):
    """One number per point and unit: the mean over the map of each view, then over the views."""
    return np.stack([np.mean([[channel.mean() for channel in view] for view in point], axis=0) for point in views])


def encoders(points=8, views=6, dtype=torch.float32):
    """f keeps the views of a point closer together than g does; tokens x channels, as from a vision transformer."""
    z_f, z_g = relu_features(points, views, 17, 12, dtype=dtype), randn(points, views, 17, 12, dtype=dtype)
    return z_f, z_g, [(list(z[:, 0].double().numpy()), list(z[:, 1:].double().numpy())) for z in (z_f, z_g)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sslmem_and_layermem_follow_the_scripts(dtype, backend):
    z_f, z_g, ((clean_f, views_f), (clean_g, views_g)) = encoders(dtype=dtype)
    want = published_scores(clean_f, views_f, clean_g, views_g)
    # A distance of unit vectors is off by a few roundings of 1; the range, below 2, passes them on.
    raw_range = np.ptp(independent.alignment(z_g, "anchor") - independent.alignment(z_f, "anchor"))
    size = np.full_like(want, 2 * (1 + np.abs(want).max()) / raw_range)
    independent.assert_close(memkern.sslmem(z_f, z_g, compat="scripts", backend=backend), want, 16, size)
    independent.assert_close(memkern.layermem(z_f, z_g, compat="scripts", backend=backend), want.mean(), 16, size[0])


def test_the_scripts_differ_from_the_papers_where_they_are_known_to(backend):
    z_f, z_g, _ = encoders()
    script = memkern.sslmem(z_f, z_g, compat="scripts", backend=backend)
    for options in ({}, {"scale": "range"}, {"pairs": "anchor"}, {"pairs": "anchor", "scale": "ratio"}):
        assert (script - memkern.sslmem(z_f, z_g, backend=backend, **options)).abs().max() > 1e-3
    means = relu_features(50, 8)
    paper, script = (memkern.unitmem(means, compat=compat, backend=backend) for compat in (None, "scripts"))
    assert (paper - script).abs().max() > 1e-3


def test_compat_overrides_the_options_it_names(backend):
    z_f, z_g, _ = encoders()
    want = memkern.sslmem(z_f, z_g, compat="scripts", backend=backend)
    got = memkern.sslmem(z_f, z_g, compat="scripts", pairs="all", scale="none", normalize=False, backend=backend)
    assert torch.equal(got, want)
    spelled = memkern.sslmem(z_f, z_g, pairs="anchor", scale="range", normalize=True, backend=backend)
    assert torch.equal(spelled, want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("points", [2, 3, 4, 5, 61])
def test_unitmem_follows_the_scripts(points, dtype, backend):
    maps = relu_features(points, 10, 6, 2, 2, dtype=dtype)  # points, views, units and a 2 x 2 map
    rows = published_unit_means(maps.double().numpy())
    got = memkern.unitmem(maps, view_dim=1, compat="scripts", backend=backend)
    # 40 non-negative elements per mean: 40 roundings at worst, and the score passes on at most half of each part's.
    independent.assert_close(got, published_selectivity(rows), 44, np.ones(6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_classmem_follows_the_scripts_on_one_image_per_class(dtype, backend):
    maps = relu_features(7, 5, 3, 3, dtype=dtype)  # images, units and a map; with one image a class is its image
    rows = published_unit_means(maps.double().numpy()[:, None])
    got = memkern.classmem(maps, torch.arange(7), compat="scripts", backend=backend)
    independent.assert_close(got, published_selectivity(rows), 12, np.ones(5))


def test_streaming_with_the_median_is_the_scripts_unitmem(backend):
    maps = relu_features(31, 6, 2, 2)
    metric = memkern.UnitMem(rest="median", backend=backend)
    for batch in maps.split(4):
        metric.update(batch)
    assert torch.equal(metric.compute(), memkern.unitmem(maps, compat="scripts", backend=backend))
