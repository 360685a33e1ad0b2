"""The Triton alignment against the float64 reference, forward."""

from __future__ import annotations

import functools

import pytest
import torch
import triton
import triton.language as tl
from support import on_cpu, on_device, shape_name
from torch import Tensor

from memkern import reference
from memkern.reference.alignment import pair_distances
from memkern.triton_kernels import alignment as kernels
from memkern.triton_kernels import launches
from memkern.triton_kernels.memory import accumulate_dtype
from python_tests.helpers import testing

ALL_PAIRS = [("all", True), ("all", False)]
OPTIONS = [("all", True), ("anchor", False)]  # between them every path; pairs and normalizing do not meet


def run(z: Tensor, pairs: str = "all", normalize: bool = True, keep: bool = False) -> tuple[Tensor, Tensor]:
    out, saved = on_cpu(kernels.alignment(on_device(z), pairs == "anchor", normalize, keep))
    return out, saved


def expected(z: Tensor, pairs: str, normalize: bool) -> testing.Expected:
    options = {"pairs": pairs, "normalize": normalize}
    oracle, plain = (
        functools.partial(reference.alignment, **options),
        functools.partial(testing.plain_alignment, **options),
    )
    return testing.expected(oracle, plain, z)


def check(
    z: Tensor, memory: Tensor | None = None, options: list[tuple[str, bool]] = OPTIONS, keep: bool = False
) -> None:
    for pairs, normalize in options:
        got, _ = run(z if memory is None else memory, pairs, normalize, keep)
        testing.assert_within(got, expected(z, pairs, normalize), accumulate_dtype(z.dtype), (pairs, normalize))


@pytest.mark.parametrize(
    "shape", [(2, 2, 1), (1, 3, 7), (1, 4, 64), (1, 5, 33), (1, 10, 130), (1, 17, 20), (1, 2, 515)], ids=shape_name
)
def test_shapes(shape):
    check(testing.randn(*shape))


def test_dtypes(dtype):
    check(testing.relu_features(2, 3, 300, dtype=dtype), keep=True)


@pytest.mark.parametrize("dims", [63, 64 + 16, 4 * 64 + 3])
def test_chunks(dims, monkeypatch):
    """Chunks of 64 dims, two of which `_finish` adds at once: the last time there is one of them."""
    monkeypatch.setitem(launches._VALUES, ("alignment", "blocks"), 1)
    monkeypatch.setitem(launches._VALUES, ("alignment", "finish_sums"), 2)
    check(testing.relu_features(1, 2, dims), options=[("all", True)])


def test_more_blocks_than_are_added_in_the_narrow_type():
    check(testing.randn(1, 2, 2100, dtype=torch.float64), options=[("all", True)])  # 8 blocks are 2048 doubles


@pytest.mark.numbers
@pytest.mark.parametrize("family", testing.FAMILIES)
def test_families(family):
    for dtype in (torch.float32, torch.float64):
        check(testing.FAMILIES[family](2, 3, 150, dtype=dtype), options=[("all", True)])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 3, 300), torch.float32), ((1, 4, 304), torch.bfloat16), ((1, 17, 40), torch.float32)],
    ids=shape_name,
)
def test_second_look(shape, dtype, monkeypatch):
    """Nearly one direction and other lengths: sums of raw elements tell nothing. Pieces of 128 or 256 dims."""
    monkeypatch.setitem(launches._VALUES, ("alignment", "blocks"), 1)
    monkeypatch.setitem(launches._VALUES, ("alignment", "second_look_dims"), 0)
    check(testing.near_parallel(*shape, eps=0.1, spread=1.0, dtype=dtype), options=[("all", True), ("anchor", True)])


@pytest.mark.numbers
@pytest.mark.parametrize("anchor", [False, True])
def test_second_look_beside_other_pairs(anchor, monkeypatch):
    """Points without a mark, NaN, equal, zero and huge views, and views too near for unit vectors in floats."""
    monkeypatch.setitem(launches._VALUES, ("alignment", "blocks"), 1)
    monkeypatch.setitem(launches._VALUES, ("alignment", "second_look_dims"), 0)
    monkeypatch.setitem(launches._VALUES, ("alignment", "finish_pairs"), 4)
    monkeypatch.setitem(launches._VALUES, ("alignment", "finish_sums"), 8)  # two of three pieces at once
    z = testing.near_parallel(7, 5, 300, eps=0.03, spread=3.0)
    z[0] = testing.randn(5, 300)
    z[1, 2, 170] = torch.nan
    z[2, 3] = z[2, 0]
    z[3, 0] *= 1e22
    z[4, 2] = 0
    z[5, 1:] = (2.5 * z[5, :1] + 1e-4 * testing.randn(4, 300)) * torch.tensor([1.0, 0.7, 0.5, 0.3])[:, None]
    out, saved = on_cpu(kernels.alignment(on_device(z), anchor, True, True))
    want = pair_distances(z, pairs="anchor" if anchor else "all", normalize=True)
    torch.testing.assert_close(saved[:, : want.shape[1]].double(), want, rtol=5e-7, atol=0, equal_nan=True)
    torch.testing.assert_close(saved[:, want.shape[1] :].double(), z.double().norm(dim=2), rtol=2e-7, atol=0,
                               equal_nan=True)  # fmt: skip
    torch.testing.assert_close(out.double(), want.mean(1), rtol=5e-7, atol=0, equal_nan=True)
    assert (want == 0).any()


@pytest.mark.numbers
def test_lengths_that_differ_as_much_as_directions():
    """Sums that give a fair share of the distance, and norms whose error would be seen in it."""
    check(testing.near_parallel(12, 2, 8192, eps=1e-3, spread=2.3e-3), options=[("all", True)])


@pytest.mark.numbers
def test_near_views_of_different_lengths_keep_their_digits(monkeypatch):
    """A float has 6e-8 of an element: unit vectors in float would be 1e-3 of these distances apart, or nothing."""
    monkeypatch.setitem(launches._VALUES, ("alignment", "second_look_dims"), 0)
    z = testing.near_parallel(3, 4, 64, eps=1e-4, spread=1.0)
    torch.testing.assert_close(run(z)[0].double(), reference.alignment(z), rtol=1e-6, atol=0)


@pytest.mark.numbers
def test_short_views_whose_squares_vanish_are_not_equal():
    z = torch.zeros(1, 2, 40)
    z[0, :, 0] = 2e-12
    z[0, 1, 1:] = 1e-23
    torch.testing.assert_close(run(z)[0].double(), reference.alignment(z), rtol=1e-6, atol=0)


@triton.jit
def write_views_of(pair, a, b, views, pairs, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    first, second = kernels._views_of(tl.load(pair + at), views, pairs, False)
    tl.store(a + at, first)
    tl.store(b + at, second)


def test_views_of_a_pair():
    """First and last pairs of rows, among 2 million views."""
    views = 2**21
    row = torch.tensor([0, 1, 2, 1000, 2**20, 2**21 - 3, 2**21 - 2, 0])
    column = torch.tensor([1, views - 1, 3, 1001, views - 1, views - 1, views - 1, views - 1])
    pair = row * (2 * views - row - 1) // 2 + column - row - 1
    a, b = on_device(torch.zeros_like(pair)), on_device(torch.zeros_like(pair))
    write_views_of[(1,)](on_device(pair), a, b, views, views * (views - 1) // 2, len(pair))
    assert on_cpu(a).tolist() == row.tolist()
    assert on_cpu(b).tolist() == column.tolist()


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_layouts(layout):
    z = testing.randn(2, 3, 4, 3, 5)
    check(z, testing.LAYOUTS[layout](z), options=[("all", True)])


@pytest.mark.numbers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("pairs", "normalize"), [(pairs, normalize) for pairs in ("all", "anchor") for normalize in (True, False)]
)
def test_kept(pairs, normalize, dtype):
    """Distances in pair order, then norms as they are: 1e-13 is not raised to the clamp."""
    z = testing.randn(2, 5, 20, dtype=dtype)
    z[0, 1] *= 0
    if dtype == torch.float32:
        z[1, 3] *= 1e-14
    out, saved = run(z, pairs, normalize, keep=True)
    distances = pair_distances(z, pairs=pairs, normalize=normalize)
    want = torch.cat([distances, z.double().flatten(2).norm(dim=2)], 1) if normalize else distances
    torch.testing.assert_close(saved.double(), want, rtol=16 * torch.finfo(accumulate_dtype(dtype)).eps, atol=0)
    mean = saved[:, : distances.shape[1]].double().mean(1)
    torch.testing.assert_close(out.double(), mean, rtol=4 * torch.finfo(accumulate_dtype(dtype)).eps, atol=0)


@pytest.mark.numbers
def test_options():
    check(testing.randn(2, 5, 33), options=[("all", False), ("anchor", True)])


def test_zero_and_equal_views():
    z = testing.randn(4, 3, 40)
    z[0] = 0
    z[1, 1] = 0
    z[2] = z[2, :1]
    z[3, 2] = z[3, 0]
    check(z)
    out, _ = run(z)
    assert out[0] == 0
    assert out[2] == 0


@pytest.mark.numbers
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_views_stay_in_their_point(value):
    z = testing.randn(3, 3, 40)
    z[1, 2, 7] = value
    check(z)
    clean = testing.randn(3, 3, 40)
    testing.assert_same_bits(run(z)[0][[0, 2]], run(clean)[0][[0, 2]])


@pytest.mark.numbers
@pytest.mark.parametrize("magnitude", [1e-42, 1e-30, 3e-13, 1e-12, 2e-12, 1e-6, 1e19, 1e25, 3e37])
def test_magnitudes_of_floats(magnitude):
    """Squares that vanish or overflow in float32, and norms around the clamp."""
    check(testing.randn(2, 3, 20) * magnitude, options=ALL_PAIRS)


@pytest.mark.numbers
@pytest.mark.parametrize("exponent", [-1010, -560, -500, 500, 560, 1010])
def test_magnitudes_of_doubles(exponent):
    """Squares that vanish or overflow in float64, where the oracle fails too: powers of two scale exactly."""
    z = testing.randn(2, 3, 20, dtype=torch.float64)
    small = z * 2.0**exponent
    torch.testing.assert_close(
        run(small, normalize=False)[0] * 2.0**-exponent, run(z, normalize=False)[0], rtol=1e-15, atol=0
    )
    want = run(z)[0] if exponent > 0 else run(z, normalize=False)[0] * 2.0**exponent / 1e-12
    torch.testing.assert_close(run(small)[0], want, rtol=4e-15, atol=0)


@pytest.mark.numbers
@pytest.mark.parametrize("place", [0, 19], ids=["first", "last"])
def test_one_huge_double(place):
    z = testing.randn(1, 2, 20, dtype=torch.float64)
    z[:, :, place] *= 2.0**600
    want = (z[:, 0, place] - z[:, 1, place]).abs()
    torch.testing.assert_close(run(z, normalize=False)[0], want, rtol=1e-15, atol=0)


@pytest.mark.numbers
@pytest.mark.parametrize(("dtype", "magnitude"), [(torch.float32, 1e-30), (torch.float64, 1e-200)], ids=str)
def test_more_dims_than_are_recomputed_at_once(dtype, magnitude, monkeypatch):
    monkeypatch.setitem(launches._VALUES, ("alignment", "exact_block"), 16)
    z = testing.randn(1, 3, 40, dtype=dtype)
    z[0, 1] *= magnitude
    check(z, options=ALL_PAIRS)


@pytest.mark.numbers
def test_one_large_view():
    """One norm overflows float32 when squared, its neighbours do not."""
    z = testing.randn(2, 4, 30)
    z[0, 1] *= 1e22
    z[1, 0] *= 1e-20
    check(z, options=ALL_PAIRS)


@pytest.mark.numbers
def test_point_does_not_depend_on_its_batch():
    z = testing.relu_features(3, 3, 300)
    whole, _ = run(z)
    testing.assert_same_bits(run(z[1:2])[0], whole[1:2])
    testing.assert_same_bits(run(z.flip(0))[0], whole.flip(0))


def test_expanded():
    z = testing.randn(1, 3, 20).expand(3, 3, 20)
    testing.assert_same_bits(run(z)[0], run(z.contiguous())[0])
    z = testing.randn(2, 1, 20).expand(2, 3, 20)
    assert (run(z)[0] == 0).all()


def test_no_points(dtype):
    out, saved = run(torch.empty(0, 3, 5, dtype=dtype), keep=True)
    assert out.shape == (0,)
    assert saved.shape == (0, 6)
    assert out.dtype == accumulate_dtype(dtype)


@pytest.mark.numbers
@pytest.mark.parametrize("shape", [(2, 2, 5), (2, 3, 9), (3, 4, 40), (1, 10, 33), (2, 17, 20)], ids=shape_name)
def test_view_sums(shape, dtype):
    """All of them from the distances that are kept, whether or not the backward wants these."""
    z = testing.randn(*shape, dtype=dtype)
    z[0, 1, 3] = torch.nan if shape[1] > 3 else z[0, 1, 3]
    for normalize in (True, False) if dtype == torch.float32 else (True,):
        for keep in (True, False):
            sums = empty_sums(z)
            out, saved = on_cpu(kernels.alignment(on_device(z), False, normalize, keep, sums))
            plain, kept = run(z, "all", normalize, keep)
            testing.assert_same_bits(out, plain)
            testing.assert_same_bits(saved, kept)
            for got, want in zip(on_cpu(sums), testing.expected_view_sums(z, normalize=normalize), strict=True):
                testing.assert_within(got, want, accumulate_dtype(dtype), normalize)


def empty_sums(z: Tensor) -> tuple[Tensor, ...]:
    shapes = z.shape[:2], (2, len(z)), (len(z),)
    return tuple(on_device(torch.full(shape, 7.0, dtype=accumulate_dtype(z.dtype))) for shape in shapes)


def test_view_sums_of_no_points():
    sums = empty_sums(torch.empty(0, 3, 5))
    kernels.alignment(on_device(torch.empty(0, 3, 5)), False, True, False, sums)
    assert sums[0].shape == (0, 3)


@pytest.mark.numbers
@pytest.mark.parametrize("distance", ["cosine", "angular", "l1", "raw l1"])
@pytest.mark.parametrize("family", ["randn", "identical to 1e-5"])
def test_other_distances(family, distance):
    """Both parts of the arcsine: equal views, near ones, opposite ones; with sums over the views."""
    normalize, distance = not distance.startswith("raw"), distance.removeprefix("raw ")
    for dtype in (torch.float32, torch.float64):
        z = testing.FAMILIES[family](6, 4, 40, dtype=dtype)
        z[0, 1], z[1, 2], z[2, 3] = z[0, 0], -z[1, 0], 0
        for anchor in (False, True):
            sums = None if anchor else empty_sums(z)
            out, _ = on_cpu(kernels.alignment(on_device(z), anchor, normalize, False, sums, distance))
            pairs = "anchor" if anchor else "all"
            want = testing.expected_alignment(z, pairs=pairs, normalize=normalize, distance=distance)
            testing.assert_within(out, want, dtype, anchor)
            by_view = testing.expected_view_sums(z, normalize=normalize, distance=distance)
            for got, expected in zip(on_cpu(sums or ()), by_view, strict=False):
                testing.assert_within(got, expected, dtype, anchor)
