"""The Triton layer_stats: the same numbers as alignment and unit_means apart, in every order of memory."""

from __future__ import annotations

import pytest
import torch
from support import on_cpu, on_device, shape_name

from memkern import reference
from memkern.triton_kernels import launches
from memkern.triton_kernels.layer_stats import chunks_of, layer_stats
from memkern.triton_kernels.memory import accumulate_dtype
from python_tests.helpers import testing


@pytest.mark.parametrize(
    ("shape", "unit_dim", "order", "planes", "chunks"),
    [
        ((2, 3, 5, 7, 7), 2, None, True, 1),
        ((1, 2, 90, 7, 7), 2, None, True, 6),  # 16 maps of 49 in each chunk but the last
        ((1, 2, 3, 70, 70), 2, None, True, 3),  # a map larger than a chunk
        ((1, 2, 3, 6, 5), 2, (0, 1, 3, 4, 2), False, 1),  # channels-last
        ((1, 2, 500, 20), 3, None, False, 11),  # tokens
        ((2, 3, 150), 2, None, False, 1),  # a vector per view
        ((2, 3, 1, 4, 4), 2, None, True, 1),
        ((1, 2, 4, 5, 6), 3, None, None, None),  # units in the middle: two passes
    ],
    ids=shape_name,
)
def test_layouts(shape, unit_dim, order, planes, chunks):
    x = testing.relu_features(*shape)
    memory = x if order is None else testing.in_order(x, *order)
    cut = chunks_of(memory, unit_dim)
    assert (cut and (cut.planes, cut.count)) == (None if planes is None else (planes, chunks))
    check(x, memory, unit_dim)


@pytest.mark.parametrize("shape", [(2, 3, 2, 13, 5), (1, 4, 3, 20, 15)], ids=shape_name)
def test_large_maps(shape, monkeypatch):
    """Maps of a block and more, which are read once: of one piece, and of two."""
    monkeypatch.setitem(launches._VALUES, ("layer_stats", "blocks"), 0)
    monkeypatch.setitem(launches._VALUES, ("alignment", "blocks"), 2)
    for dtype in (torch.float32, torch.float64):
        x = testing.relu_features(*shape, dtype=dtype)
        check(x, x, 2)
    constant = torch.full(shape, 0.1)
    assert (on_cpu(layer_stats(on_device(constant), 2, False, False, False))[1] == 0.1).all()


@pytest.mark.parametrize(
    ("shape", "unit_dim", "blocks"),
    [
        ((1, 3, 3, 13, 5), 2, 0),  # maps of two pieces, by themselves; of one chunk with another
        ((1, 3, 5, 7, 7), 2, 3),
        ((2, 2, 20, 15), 3, 3),
    ],
    ids=shape_name,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_second_look(shape, unit_dim, blocks, dtype, monkeypatch):
    """Nearly one direction and other lengths: read once more, in the pieces of alignment."""
    monkeypatch.setitem(launches._VALUES, ("layer_stats", "blocks"), blocks)
    monkeypatch.setitem(launches._VALUES, ("alignment", "blocks"), 1)
    monkeypatch.setitem(launches._VALUES, ("alignment", "second_look_dims"), 0)
    x = testing.near_parallel(*shape, eps=0.1, spread=1.0, dtype=dtype)
    check(x, x, unit_dim, options=[(False, True), (True, True)])


def check(x, memory, unit_dim, options=((False, True), (True, False))):
    for anchor, normalize in options:
        alignment, means, saved = on_cpu(layer_stats(on_device(memory), unit_dim, anchor, normalize, True))
        want = reference.layer_stats(x, unit_dim=unit_dim, pairs="anchor" if anchor else "all", normalize=normalize)
        eps = torch.finfo(accumulate_dtype(x.dtype)).eps
        torch.testing.assert_close(alignment.double(), want[0], rtol=8 * eps, atol=0)
        torch.testing.assert_close(means.double(), want[1], rtol=8 * eps, atol=8 * eps)
        pairs = x.shape[1] - 1 if anchor else x.shape[1] * (x.shape[1] - 1) // 2
        assert saved.shape == (x.shape[0], pairs + (x.shape[1] if normalize else 0))
        torch.testing.assert_close(saved[:, :pairs].double().mean(1), alignment.double(), rtol=8 * eps, atol=0)


def test_view_sums():
    """Of one read, in two passes, and of large maps."""
    for shape, unit_dim in (((2, 5, 5, 7, 7), 2), ((1, 4, 4, 5, 6), 3), ((1, 2, 3, 70, 70), 2)):
        x = testing.relu_features(*shape)
        sums = tuple(on_device(torch.empty(shape)) for shape in (x.shape[:2], (2, len(x)), (len(x),)))
        plain = on_cpu(layer_stats(on_device(x), unit_dim, False, True, False))
        for got, want in zip(on_cpu(layer_stats(on_device(x), unit_dim, False, True, False, sums)), plain, strict=True):
            testing.assert_same_bits(got, want)
        for got, want in zip(on_cpu(sums), testing.expected_view_sums(x), strict=True):
            testing.assert_within(got, want, torch.float32, shape)


@pytest.mark.parametrize("distance", ["cosine", "angular", "l1"])
def test_other_distances(distance):
    """Of one read, in two passes, and of large maps."""
    for shape, unit_dim in (((2, 5, 5, 7, 7), 2), ((1, 4, 4, 5, 6), 3), ((1, 2, 3, 70, 70), 2)):
        x = testing.relu_features(*shape)
        got = on_cpu(layer_stats(on_device(x), unit_dim, False, True, False, None, distance))
        testing.assert_within(got[0], testing.expected_alignment(x, distance=distance), torch.float32, shape)


def test_dtypes(dtype):
    x = testing.relu_features(2, 3, 5, 20, dtype=dtype)
    check(x, x, 2, options=[(False, True)])


@pytest.mark.numbers
def test_nan_stays_in_its_point_and_unit():
    x = testing.relu_features(2, 3, 5, 20)
    x[1, 2, 3, 4] = torch.nan
    alignment, means, _ = on_cpu(layer_stats(on_device(x), 2, False, True, False))
    assert alignment.isnan().tolist() == [False, True]
    assert means.isnan().nonzero().tolist() == [[1, 3]]
