"""Layer statistics: alignment and unit means of one read, in every layout, on every path."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import memkern
from memkern import native, reference
from python_tests.helpers import testing

OPTIONS = [(pairs, normalize) for pairs in ("all", "anchor") for normalize in (True, False)]


@functools.lru_cache(maxsize=1024)
def case(family: str, shape: tuple[int, ...], dtype: torch.dtype, unit_dim: int, pairs: str, normalize: bool):
    x = testing.FAMILIES[family](*shape, dtype=dtype)
    alignment = testing.expected_alignment(x, pairs=pairs, normalize=normalize)
    return x, alignment, testing.expected_unit_means(x, unit_dim=unit_dim)


def check(
    path: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    unit_dim: int,
    options: tuple[str, bool] = ("all", True),
    layout: Callable[[Tensor], Tensor] = Tensor.contiguous,
    family: str = "randn",
) -> None:
    """Both halves against the reference, within the budgets of the ops they stand for."""
    pairs, normalize = options
    x, alignment, means = case(family, shape, dtype, unit_dim, pairs, normalize)
    got = memkern.layer_stats(layout(x), unit_dim=unit_dim, pairs=pairs, normalize=normalize, backend=path)
    what = (family, shape, unit_dim, pairs, normalize)
    testing.assert_within(got.alignment, alignment, native.accumulate_dtype(dtype), (*what, "alignment"))
    testing.assert_within(got.unit_means, means, native.accumulate_dtype(dtype), (*what, "unit means"))


def test_reference_is_the_two_references(dtype):
    """The oracle of this op is written out again; it must be the other two oracles."""
    x = testing.randn(3, 4, 5, 6, dtype=dtype)
    for unit_dim in (2, 3):
        for pairs, normalize in OPTIONS:
            alignment, means = reference.layer_stats(x, unit_dim=unit_dim, pairs=pairs, normalize=normalize)
            torch.testing.assert_close(alignment, reference.alignment(x, pairs=pairs, normalize=normalize))
            torch.testing.assert_close(means, reference.unit_means(x, unit_dim=unit_dim))


@pytest.mark.parametrize("layout", testing.LAYOUTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layouts(kernel, layout, dtype, options):
    for shape in ((5, 3, 7, 4, 6), (3, 2, 33, 5), (4, 10, 19), (2, 5, 3, 17, 1)):
        for unit_dim in range(2, len(shape)):
            check(kernel, shape, dtype, unit_dim, options, testing.LAYOUTS[layout])


@pytest.mark.parametrize("views", [2, 3, 4, 5, 6, 9, 10, 11, 16, 17, 32, 33])
def test_view_counts(kernel, views, dtype):
    for shape in ((2, views, 5, 7), (2, views, 37), (1, views, 64, 4, 4)):
        for unit_dim in {2, len(shape) - 1}:
            check(kernel, shape, dtype, unit_dim)


@pytest.mark.parametrize("views", [16, 17, 33])
def test_many_views_of_an_anchor(kernel, views, dtype):
    for shape in ((2, views, 5, 7), (1, views, 70, 40)):
        check(kernel, shape, dtype, 2, ("anchor", True))


LARGE = [
    (2, 3, 64, 45, 33), (2, 3, 2049, 45), (2, 6, 3, 121, 121), (2, 4, 197, 384), (1, 10, 8200, 3), (1, 17, 900, 20),
]  # fmt: skip


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_larger_than_a_chunk(kernel, shape, dtype):
    """Points of more than 512 KB in every dtype, which are read in pieces; units on either side of a piece."""
    for unit_dim in {2, len(shape) - 1}:
        for options in (("all", True), ("anchor", False)):
            check(kernel, shape, dtype, unit_dim, options, family="relu features")
    check(kernel, shape, dtype, 2, layout=testing.LAYOUTS["channels last"], family="relu features")


@pytest.mark.parametrize("family", testing.FAMILIES)
def test_families(kernel, family, dtype):
    check(kernel, (4, 5, 12, 6, 6), dtype, 2, family=family)


@pytest.mark.parametrize("given", [(1, 3, 6, 5), (4, 1, 6, 5), (4, 3, 1, 5), (4, 3, 6, 1)], ids=str)
def test_expanded(path, given, dtype):
    x = testing.randn(*given, dtype=dtype).expand(4, 3, 6, 5)
    got = memkern.layer_stats(x, backend=path)
    wide = native.accumulate_dtype(dtype)
    testing.assert_within(got.alignment, testing.expected_alignment(x.contiguous()), wide, given)
    testing.assert_within(got.unit_means, testing.expected_unit_means(x.contiguous(), unit_dim=2), wide, given)


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_agrees_with_the_two_ops(path, layout, dtype):
    """The docstring's promise: the first is alignment(x), the second unit_means(x, view_dim=1)."""
    x = testing.LAYOUTS[layout](testing.relu_features(6, 4, 8, 5, 5, dtype=dtype))
    got = memkern.layer_stats(x, backend=path)
    close = functools.partial(
        torch.testing.assert_close, rtol=8 * torch.finfo(native.accumulate_dtype(dtype)).eps, atol=0
    )
    close(got.alignment, memkern.alignment(x, backend=path))
    close(got.unit_means, memkern.unit_means(x, view_dim=1, backend=path))


@pytest.mark.parametrize("view_dim", [1, 2, 3, -1])
def test_view_dim(path, view_dim):
    """The views in another place of the shape are the same views; units keep their number in the given shape."""
    x = testing.randn(3, 4, 5, 6)
    want = memkern.layer_stats(x, unit_dim=2, backend=path)
    moved = x.movedim(1, view_dim)
    unit_dim = 2 if view_dim == 1 else 1
    got = memkern.layer_stats(moved, view_dim=view_dim, unit_dim=unit_dim, backend=path)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("pairs", "normalize"), OPTIONS)
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_gradient_is_that_of_alignment(path, layout, dtype, pairs, normalize):
    x = testing.LAYOUTS[layout](testing.randn(3, 4, 5, 3, 2, dtype=dtype))
    upstream = testing.randn(3, dtype=native.accumulate_dtype(dtype))
    a, b = x.detach().requires_grad_(), x.detach().requires_grad_()
    stats = memkern.layer_stats(a, pairs=pairs, normalize=normalize, backend=path)
    assert not stats.unit_means.requires_grad
    stats.alignment.backward(upstream)
    memkern.alignment(b, pairs=pairs, normalize=normalize, backend=path).backward(upstream)
    # what the forwards keep (distances, norms) may differ in the last bits: 16 roundings of the larger gradients
    size = b.grad.abs().max().item()
    eps = max(torch.finfo(native.accumulate_dtype(dtype)).eps * 16, torch.finfo(dtype).eps)
    torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=eps * size)


def test_gradcheck(path):
    x = testing.randn(2, 3, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: memkern.layer_stats(x, backend=path).alignment, (x,))


def test_no_points(path, dtype):
    got = memkern.layer_stats(torch.empty(0, 3, 4, 5, dtype=dtype), backend=path)
    assert got.alignment.shape == (0,)
    assert got.unit_means.shape == (0, 4)


def test_hand_worked(path, dtype):
    got = memkern.layer_stats(torch.tensor([[[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]]], dtype=dtype), backend=path)
    assert got.alignment.item() == pytest.approx(0.2828427124746190, rel=1e-7)
    assert got.unit_means.tolist() == [[3.5, 3.5, 0.0]]


# ---- sums over views, of alignment_stats too -------------------------------------------------------------------------


def check_view_sums(x: Tensor, path: str, normalize: bool, context: object) -> None:
    """Of both functions; beside them the bits are those of a call without."""
    wide, want = native.accumulate_dtype(x.dtype), testing.expected_view_sums(x, normalize=normalize)
    aligned = memkern.alignment_stats(x, normalize=normalize, backend=path)
    testing.assert_same_bits(aligned.alignment, memkern.alignment(x, normalize=normalize, backend=path))
    for unit_dim in range(2, x.ndim):
        stats = memkern.layer_stats(x, unit_dim=unit_dim, normalize=normalize, view_sums=True, backend=path)
        plain = memkern.layer_stats(x, unit_dim=unit_dim, normalize=normalize, backend=path)
        for part, alone in zip(stats, plain, strict=False):
            testing.assert_same_bits(part, alone)
        for name, part, expected in zip(("rows", "halves", "stderr"), stats[2:], want, strict=True):
            testing.assert_within(part, expected, wide, (context, unit_dim, name))
    for name, part, expected in zip(("rows", "halves", "stderr"), aligned[1:], want, strict=True):
        testing.assert_within(part, expected, wide, (context, name))


@pytest.mark.parametrize("views", [2, 3, 4, 5, 6, 9, 10, 11, 17, 33])
def test_view_sums(kernel, views, dtype):
    for shape in ((2, views, 1), (3, views, 19), (2, views, 3, 5, 7)):
        for normalize in (True, False):
            check_view_sums(testing.randn(*shape, dtype=dtype), kernel, normalize, shape)


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_view_sums_of_layouts(kernel, layout, dtype):
    for shape in ((5, 3, 7, 4, 6), (2, 10, 5, 17)):
        check_view_sums(testing.LAYOUTS[layout](testing.randn(*shape, dtype=dtype)), kernel, True, shape)


@pytest.mark.parametrize("family", testing.FAMILIES)
def test_view_sums_of_families(kernel, family, dtype):
    check_view_sums(testing.FAMILIES[family](4, 5, 12, 6, 6, dtype=dtype), kernel, True, family)


def test_view_sums_of_a_large_layer(kernel):
    """Points in slices, and more than one thread of points."""
    for shape in ((2, 4, 197, 384), (301, 3, 65)):
        check_view_sums(testing.relu_features(*shape), kernel, True, shape)


def test_view_sums_by_hand(path):
    """Views 0, 1, 3 and 7 on a line: even ones are 3 apart, odd ones 6, of pairs at 1 3 7, 2 6 and 4."""
    z = torch.tensor([0.0, 1.0, 3.0, 7.0]).view(1, 4, 1)
    stats = memkern.alignment_stats(z, normalize=False, backend=path)
    assert stats.rows.tolist() == [[11.0, 9.0, 9.0, 17.0]]
    assert stats.halves.tolist() == [[3.0], [6.0]]
    # without a view: (23 - r) / 3 = 4, 14/3, 14/3, 2; around 23/6: (1 + 25 + 25 + 121) / 36 = 43/9; of it 3/4
    assert stats.stderr.item() == pytest.approx((3 / 4 * 43 / 9) ** 0.5, rel=1e-7)


def test_view_sums_of_few_views(path, dtype):
    z = testing.randn(3, 3, 8, dtype=dtype)
    three, two = memkern.alignment_stats(z, backend=path), memkern.alignment_stats(z[:, :2], backend=path)
    assert three.halves.isnan().tolist() == [[False] * 3, [True] * 3]
    assert two.halves.isnan().all()
    assert two.stderr.isnan().all()
    testing.assert_same_bits(two.rows, two.alignment[:, None].expand(3, 2))


def test_nan_stays_in_its_point_and_half(path, dtype):
    z = testing.randn(3, 5, 8, dtype=dtype)
    z[1, 3, 2] = torch.nan
    stats = memkern.alignment_stats(z, backend=path)
    assert stats.rows.isnan().tolist() == [[False] * 5, [True] * 5, [False] * 5]
    assert stats.halves.isnan().tolist() == [[False] * 3, [False, True, False]]
    assert stats.stderr.isnan().tolist() == [False, True, False]


def test_view_sums_of_no_points(path, dtype):
    x = torch.empty(0, 3, 4, 5, dtype=dtype)
    stats = memkern.layer_stats(x, view_sums=True, backend=path)
    assert [tuple(part.shape) for part in stats] == [(0,), (0, 4), (0, 3), (2, 0), (0,)]
    assert [tuple(part.shape) for part in memkern.alignment_stats(x, backend=path)] == [(0,), (0, 3), (2, 0), (0,)]


def test_equal_views_have_no_distance_in_any_sum(path, dtype):
    stats = memkern.alignment_stats(testing.randn(4, 1, 9, dtype=dtype).expand(4, 4, 9), backend=path)
    assert all((part == 0).all() for part in stats)


def test_gradient_beside_view_sums(path):
    x = testing.randn(3, 4, 5, 2).requires_grad_()
    stats = memkern.layer_stats(x, view_sums=True, backend=path)
    assert not stats.rows.requires_grad
    assert not stats.halves.requires_grad
    stats.alignment.sum().backward()
    y = x.detach().requires_grad_()
    memkern.layer_stats(y, backend=path).alignment.sum().backward()
    testing.assert_same_bits(x.grad, y.grad)
    assert not memkern.alignment_stats(x, backend=path).alignment.requires_grad


def test_view_sums_of_numpy(path):
    x = testing.randn(3, 4, 5)
    for got, want in zip(
        memkern.layer_stats(x.numpy(), view_sums=True, backend=path),
        memkern.layer_stats(x, view_sums=True, backend=path),
        strict=True,
    ):
        assert (got == want.numpy()).all()


def test_view_sums_of_an_anchor_are_refused(path):
    with pytest.raises(ValueError, match="Expected `pairs` to be 'all' with `view_sums`, got 'anchor'"):
        memkern.layer_stats(torch.ones(2, 3, 4), pairs="anchor", view_sums=True, backend=path)
    for op, *arguments in ((torch.ops.memkern.alignment,), (torch.ops.memkern.layer_stats, 2)):
        with pytest.raises(ValueError, match="got 'anchor'"):
            op(torch.ones(2, 3, 4), *arguments, True, True, False, path, True)


# ---- other distances than l2, of alignment and alignment_stats too ---------------------------------------------------


def check_distances(x: Tensor, path: str, context: object) -> None:
    wide = native.accumulate_dtype(x.dtype)
    for distance, normalize in (("l1", True), ("l1", False), ("cosine", True), ("angular", True)):
        options = {"distance": distance, "normalize": normalize, "backend": path}
        for pairs in ("all", "anchor"):
            want = testing.expected_alignment(x, pairs=pairs, normalize=normalize, distance=distance)
            got = memkern.alignment(x, pairs=pairs, **options)
            testing.assert_within(got, want, wide, (context, distance, pairs))
            stats = memkern.layer_stats(x, pairs=pairs, **options)
            testing.assert_within(stats.alignment, want, wide, (context, distance, pairs))
            testing.assert_same_bits(stats.unit_means, memkern.layer_stats(x, pairs=pairs, backend=path).unit_means)
        aligned, stats = memkern.alignment_stats(x, **options), memkern.layer_stats(x, view_sums=True, **options)
        for part, other, want in zip(
            aligned[1:], stats[2:], testing.expected_view_sums(x, normalize=normalize, distance=distance), strict=True
        ):
            testing.assert_within(part, want, wide, (context, distance))
            testing.assert_within(other, want, wide, (context, distance))


@pytest.mark.parametrize("family", testing.FAMILIES)
@pytest.mark.parametrize("views", [2, 3, 5, 10, 17])
def test_other_distances(kernel, family, views, dtype):
    check_distances(testing.FAMILIES[family](6, views, 6, 3, 3, dtype=dtype), kernel, family)


@pytest.mark.parametrize("dims", [2, 40])
def test_directions_against_their_cosine(path, dtype, dims):
    """1 - cos and arccos(cos) / pi as they are written, where these keep their digits; lengths do not matter."""
    x = testing.randn(5, 3, dims, dtype=dtype)
    unit = torch.nn.functional.normalize(x.double(), dim=2)
    cosines = (unit @ unit.transpose(1, 2))[:, [0, 0, 1], [1, 2, 2]].clamp(-1, 1)
    for scale in (1.0, 4.0):
        z = x * torch.tensor([1.0, scale, 1 / scale], dtype=dtype)[:, None]
        close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
        close(memkern.alignment(z, distance="cosine", backend=path).double(), (1 - cosines).mean(1))
        angles = torch.arccos(cosines).mean(1) / torch.pi
        close(memkern.alignment(z, distance="angular", backend=path).double(), angles)


def test_directions_by_hand(path, dtype):
    """A right angle, opposite views, equal views, zeros: 1 and a half, 2 and 1, 0; beside a zero as at 60 degrees."""
    e, zero = [1.0, 0.0], [0.0, 0.0]
    z = torch.tensor([[e, [0.0, 3.0]], [e, [-2.0, 0.0]], [e, e], [zero, zero], [e, zero]], dtype=dtype)
    by_distance = {"cosine": [1, 2, 0, 0, 1 / 2], "angular": [1 / 2, 1, 0, 0, 1 / 3], "l1": [2, 2, 0, 0, 1]}
    for distance, want in by_distance.items():
        got = memkern.alignment(z, distance=distance, backend=path)
        rounding = 4 * torch.finfo(got.dtype).eps
        torch.testing.assert_close(got, torch.tensor(want, dtype=got.dtype), rtol=rounding, atol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_directions_of_what_is_not_finite(path, value, dtype):
    z = testing.randn(3, 3, 7, dtype=dtype)
    z[1, 2, 4] = value
    for distance in ("cosine", "angular", "l1"):
        assert memkern.alignment(z, distance=distance, backend=path).isnan().tolist() == [False, True, False]
    raw = memkern.alignment(z, distance="l1", normalize=False, backend=path)
    assert raw.isfinite().tolist() == [True, False, True]


def test_options_that_directions_refuse(path):
    z = testing.randn(2, 3, 4)
    for call in (memkern.alignment, memkern.alignment_stats, memkern.layer_stats, functools.partial(memkern.sslmem, z)):
        known = "'l2', 'l1', 'cosine', 'angular'"
        with pytest.raises(ValueError, match=f"Expected `distance` to be one of {known}, got 'l3'"):
            call(z, distance="l3", backend=path)
        with pytest.raises(ValueError, match="Expected normalize=True with distance='cosine'"):
            call(z, distance="cosine", normalize=False, backend=path)
        for distance in ("l1", "angular") if call is not memkern.alignment_stats else ():
            with pytest.raises(ValueError, match=f"Expected data without requires_grad with distance='{distance}'"):
                call(z.clone().requires_grad_(), distance=distance, backend=path)


def test_l1_by_hand(path, dtype):
    """Views as they are: 3 + 1, 0 of equal ones, and the mean of 1, 2 and 3 of three views on a line."""
    pair = torch.tensor([[[1.0, 2.0], [-2.0, 1.0]], [[5.0, -1.0], [5.0, -1.0]]], dtype=dtype)
    got = memkern.alignment(pair, distance="l1", normalize=False, backend=path)
    assert got.tolist() == [4.0, 0.0]
    line = torch.tensor([[[0.0], [1.0], [3.0]]], dtype=dtype)
    found = memkern.alignment_stats(line, distance="l1", normalize=False, backend=path)
    assert [float(found.alignment), found.rows.tolist(), found.halves[0].tolist()] == [2.0, [[4.0, 3.0, 5.0]], [3.0]]


def test_l1_of_large_and_small_numbers(path, dtype):
    """Sums in double: nothing overflows or vanishes before its result does."""
    big = torch.finfo(dtype).max / 16
    z = torch.tensor([[[big, big], [big / 2, big]], [[1e-7, 0.0], [0.0, 1e-7]]], dtype=dtype)
    got = memkern.alignment(z, distance="l1", normalize=False, backend=path)
    wide = z.double()
    torch.testing.assert_close(got.double(), (wide[:, 0] - wide[:, 1]).abs().sum(1), rtol=1e-6, atol=0)
