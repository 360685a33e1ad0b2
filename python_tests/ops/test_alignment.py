"""Alignment, forward and backward, on every path against the float64 reference."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

import memkern
from memkern import native, reference
from python_tests.helpers import testing

OPTIONS = [(pairs, normalize) for pairs in ("all", "anchor") for normalize in (True, False)]
# Tiles of 4 or 5 views and blocks of pairs: each view count meets a different mixture of them.
VIEWS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 31, 32, 33]
# Around vector widths, and around the chunks that sums are flushed after.
DIMS = [1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 255, 256, 257, 511, 513, 1000, 1025, 2049, 4099]


@functools.lru_cache(maxsize=4096)
def case(family: str, shape: tuple[int, ...], dtype: torch.dtype, pairs: str, normalize: bool):
    z = testing.FAMILIES[family](*shape, dtype=dtype)
    return z, testing.expected_alignment(z, pairs=pairs, normalize=normalize)


def check(path: str, family: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for pairs, normalize in OPTIONS:
        z, want = case(family, shape, dtype, pairs, normalize)
        got = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=path)
        testing.assert_within(got, want, native.accumulate_dtype(dtype), (family, shape, pairs, normalize))


@pytest.mark.parametrize("views", VIEWS)
def test_view_counts(kernel, views, dtype):
    for dims in (1, 3, 16, 33, 70) if views < 20 else (33,):  # the reference takes 20 us a pair
        check(kernel, "randn", (2, views, dims), dtype)


@pytest.mark.parametrize("views", [65, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_many_views(kernel, views, dtype):
    check(kernel, "randn", (2, views, 33), dtype)


@pytest.mark.parametrize("dims", DIMS)
def test_dims(kernel, dims, dtype):
    for views in (2, 3, 4, 5, 10):
        check(kernel, "relu features", (3, views, dims), dtype)


@pytest.mark.parametrize("family", testing.FAMILIES)
@pytest.mark.parametrize("shape", [(6, 2, 300), (6, 4, 2048), (6, 10, 515), (6, 23, 129)], ids=str)
def test_families(kernel, family, shape, dtype):
    check(kernel, family, shape, dtype)


def test_nearly_parallel_views_of_different_lengths_keep_their_digits(path):
    """A float has 6e-8 of an element: unit vectors in float would be 1e-3 of these distances apart, or nothing."""
    z = testing.near_parallel(3, 10, 64, eps=1e-4, spread=1.0)
    got, want = memkern.alignment(z, backend=path), reference.alignment(z)
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)


def test_lengths_whose_inverse_no_float_holds(path):
    """Lengths of 1e40: one over them keeps 17 of a float's 24 bits."""
    z = testing.near_parallel(8, 3, 65536, eps=0.3, spread=3.0)
    z *= 2.0 ** (127 - z.abs().max().log2().ceil())
    got, want = memkern.alignment(z, backend=path), reference.alignment(z)
    torch.testing.assert_close(got.double(), want, rtol=2e-7, atol=0)


def test_lengths_whose_differences_overflow(path):
    """Opposite views of length 1.5e19, whose squared norms a float holds, beside one of a thousandth of it."""
    z = testing.randn(4, 3, 64)
    z /= z.norm(dim=2, keepdim=True)
    z[:, 1] = -z[:, 0] + 0.01 * z[:, 1]
    z *= torch.tensor([1.5e19, 1.5e19, 1.5e16])[:, None]
    got, want = memkern.alignment(z, backend=path), reference.alignment(z)
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)


def test_error_does_not_grow_with_size(path):
    """65537 elements a view: one float32 running sum would lose three digits."""
    check(path, "relu features", (2, 3, 65537), torch.float32)


def test_more_than_one_thread_of_points(kernel, dtype):
    """301 points of 3 x 65 elements pass the size from which the range is split."""
    check(kernel, "randn", (301, 3, 65), dtype)


@pytest.mark.parametrize("layout", testing.LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 3, 4, 3, 5), (4, 10, 37), (3, 2, 1, 7)], ids=str)
def test_layouts(kernel, layout, shape, dtype):
    for pairs, normalize in OPTIONS:
        z, want = case("randn", shape, dtype, pairs, normalize)
        moved = testing.LAYOUTS[layout](z)
        got = memkern.alignment(moved, pairs=pairs, normalize=normalize, backend=kernel)
        testing.assert_within(got, want, native.accumulate_dtype(dtype), (layout, pairs, normalize))


@pytest.mark.parametrize("given", [(1, 4, 20), (6, 1, 20), (6, 4, 1), (1, 4, 1), (1, 1, 1)], ids=str)
def test_expanded(path, dtype, given):
    """Stride 0 in points, views or dims; equal views have distance exactly 0."""
    z = testing.randn(*given, dtype=dtype).expand(6, 4, 20)
    for normalize in (True, False):
        want = testing.expected_alignment(z.contiguous(), normalize=normalize)
        got = memkern.alignment(z, normalize=normalize, backend=path)
        testing.assert_within(got, want, native.accumulate_dtype(dtype), (given, normalize))
        assert (got == 0).all() == (given[1] == 1)


def test_hand_worked(path):
    """Spec 1.9: (3,4,0) to (4,3,0) is 0.2828427 = sqrt(2 - 2 * 24 / 25) between unit vectors, sqrt(2) as they are."""
    z = torch.tensor([[[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]]], dtype=torch.float64)
    assert memkern.alignment(z, backend=path).item() == pytest.approx(0.2828427124746190, rel=1e-15)
    assert memkern.alignment(z, normalize=False, backend=path).item() == pytest.approx(2**0.5, rel=1e-15)


def test_pairs_are_those_named(path):
    """Views 0, 1, 3 and 7 on a line: every pair's distance is different, so every pair shows in the mean."""
    z = torch.tensor([0.0, 1.0, 3.0, 7.0]).view(1, 4, 1)
    assert memkern.alignment(z, normalize=False, backend=path).item() == pytest.approx(
        (1 + 3 + 7 + 2 + 6 + 4) / 6, rel=1e-7
    )
    anchor = memkern.alignment(z, pairs="anchor", normalize=False, backend=path).item()
    assert anchor == pytest.approx((1 + 3 + 7) / 3, rel=1e-7)


@pytest.mark.parametrize("shape", [(0, 3, 5), (0, 2, 4, 4)], ids=str)
def test_no_points(path, dtype, shape):
    z = torch.empty(shape, dtype=dtype, requires_grad=True)
    out = memkern.alignment(z, backend=path)
    assert out.shape == (0,)
    assert out.dtype == native.accumulate_dtype(dtype)
    out.sum().backward()
    assert z.grad.shape == shape


# ---- backward -----------------------------------------------------------------------------------------------------


def gradient(z: Tensor, upstream: Tensor, path: str, **options: object) -> Tensor:
    leaf = z.detach().requires_grad_()
    memkern.alignment(leaf, backend=path, **options).backward(upstream)
    return leaf.grad


@functools.lru_cache(maxsize=4096)
def backward_case(family: str, shape: tuple[int, ...], dtype: torch.dtype, pairs: str, normalize: bool):
    z = testing.FAMILIES[family](*shape, dtype=dtype)
    upstream = testing.randn(shape[0], dtype=native.accumulate_dtype(dtype))
    return z, upstream, testing.expected_gradient(z, upstream, pairs=pairs, normalize=normalize)


def check_backward(path: str, family: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for pairs, normalize in OPTIONS:
        z, upstream, want = backward_case(family, shape, dtype, pairs, normalize)
        got = gradient(z, upstream, path, pairs=pairs, normalize=normalize)
        testing.assert_within(got, want, dtype, (family, shape, pairs, normalize))


@pytest.mark.parametrize("views", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 33])
def test_backward_view_counts(kernel, views, dtype):
    for dims in (2, 16, 37) if views < 20 else (37,):
        check_backward(kernel, "randn", (2, views, dims), dtype)


@pytest.mark.parametrize("dims", [1, 7, 16, 17, 63, 65, 255, 257, 513, 1025, 4099])
def test_backward_dims(kernel, dims, dtype):
    for views in (2, 5, 10) if dims < 1000 else (2, 5):
        check_backward(kernel, "randn", (2, views, dims), dtype)


@pytest.mark.parametrize("dims", [16384, 16381])
def test_large_gradients(kernel, dims):
    """From 16 MB on, a gradient of whole vectors is written past the caches."""
    z, upstream = testing.randn(65, 4, dims), testing.randn(65)
    want = testing.expected_gradient(z, upstream, normalize=False)
    testing.assert_within(gradient(z, upstream, kernel, normalize=False), want, torch.float32, dims)


@pytest.mark.parametrize("family", testing.FAMILIES)
def test_backward_families(kernel, family, dtype):
    check_backward(kernel, family, (4, 5, 515), dtype)


@pytest.mark.parametrize(("pairs", "normalize"), OPTIONS)
@pytest.mark.parametrize("views", [2, 3, 6])
def test_gradcheck(path, pairs, normalize, views):
    z = testing.randn(2, views, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        functools.partial(memkern.alignment, pairs=pairs, normalize=normalize, backend=path), (z,)
    )


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_backward_layouts(kernel, layout, dtype):
    """Same values in other memory: the same gradient to the last bits of its rounding."""
    for pairs, normalize in OPTIONS:
        z, upstream, want = backward_case("randn", (4, 3, 4, 3, 5), dtype, pairs, normalize)
        got = gradient(testing.LAYOUTS[layout](z), upstream, kernel, pairs=pairs, normalize=normalize)
        testing.assert_within(got, want, dtype, (layout, pairs, normalize))


def test_backward_expanded(path, dtype):
    """The gradient of an expanded tensor sums over the copies; shared views have no distance and so no gradient."""
    z = testing.randn(4, 3, 20, dtype=dtype)
    for normalize in (True, False):
        row = z[:1].detach().requires_grad_()
        memkern.alignment(row.expand(4, 3, 20), normalize=normalize, backend=path).sum().backward()
        single = gradient(z[:1], torch.ones(1, dtype=native.accumulate_dtype(dtype)), path, normalize=normalize)
        torch.testing.assert_close(row.grad, 4 * single)
        view = z[:, :1].detach().requires_grad_()
        memkern.alignment(view.expand(4, 3, 20), normalize=normalize, backend=path).sum().backward()
        assert (view.grad == 0).all()


def test_backward_non_contiguous_upstream(path, dtype):
    z, upstream, want = backward_case("randn", (6, 3, 20), dtype, "all", True)
    spaced = torch.stack([upstream, torch.full_like(upstream, torch.nan)], 1)[:, 0]
    assert not spaced.is_contiguous()
    testing.assert_within(gradient(z, spaced, path), want, dtype, "spaced")
    leaf = z.detach().requires_grad_()
    memkern.alignment(leaf, backend=path).sum().backward()  # an upstream gradient of stride 0
    testing.assert_same_bits(leaf.grad, gradient(z, torch.ones(6, dtype=native.accumulate_dtype(dtype)), path))


def test_gradients_accumulate(path, dtype):
    z = testing.randn(3, 4, 9, dtype=dtype).requires_grad_()
    memkern.alignment(z, backend=path).sum().backward()
    once = z.grad.clone()
    memkern.alignment(z, backend=path).sum().backward()
    testing.assert_same_bits(z.grad, 2 * once)


@pytest.mark.parametrize("normalize", [True, False])
def test_zero_distance_has_gradient_zero(path, dtype, normalize):
    """Views 0 and 1 are equal: their pair adds nothing, and nothing becomes NaN."""
    z = testing.randn(2, 3, 11, dtype=dtype)
    z[:, 1] = z[:, 0]
    got = gradient(z, torch.ones(2, dtype=native.accumulate_dtype(dtype)), path, normalize=normalize)
    testing.assert_same_bits(got[:, 0], got[:, 1])
    assert got.isfinite().all()
    assert (got[:, 2] != 0).any()
    same = gradient(
        z[:, :2].contiguous(), torch.ones(2, dtype=native.accumulate_dtype(dtype)), path, normalize=normalize
    )
    assert (same == 0).all()


@pytest.mark.parametrize("dims", [1, 2, 5, 64, 300])
@pytest.mark.parametrize("views", [2, 3, 6])
def test_gradient_of_parallel_views_is_bounded(path, dtype, views, dims):
    """One direction, many lengths: the distance is 0 but for rounding, and a pair may pull by a unit vector at most."""
    norms = torch.arange(1, views + 1, dtype=dtype)[:, None]
    for seed in range(8):
        z = testing.randn(3, 1, dims, dtype=dtype).roll(seed, 2) * norms
        for pairs in ("all", "anchor"):
            got = gradient(z, torch.ones(3, dtype=native.accumulate_dtype(dtype)), path, pairs=pairs).double()
            assert got.isfinite().all()
            pull = got.norm(dim=2) * z.double().norm(dim=2)  # at most one of every pair that the view is in
            # A difference of rounding errors over a distance made of rounding errors: not 1, but a few at most.
            assert (pull <= 4 * (1 if pairs == "anchor" else 2 / views)).all(), (pairs, pull)


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_zero_vectors_as_normalize_takes_them(path, wide):
    """F.normalize maps 0 to 0 and divides it by 1e-12 in the backward; so does memkern."""
    z = testing.randn(4, 3, 11, dtype=wide)
    z[0, 1] = 0
    z[1, :2] = 0
    z[2] = 0
    upstream = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=wide)
    leaf = z.clone().requires_grad_()
    out = memkern.alignment(leaf, backend=path)
    torch.testing.assert_close(out.double(), reference.alignment(z), rtol=8 * torch.finfo(wide).eps, atol=0)
    assert out[2] == 0
    out.backward(upstream)
    want = reference.alignment_backward(upstream, z)
    for point in range(4):
        for view in range(3):
            error = (leaf.grad[point, view].double() - want[point, view]).norm()
            # relative to 1 / max(norm, 1e-12), as in backward_case
            bound = 16 * torch.finfo(wide).eps * 3 / max(float(z[point, view].norm()), 1e-12)
            assert error <= bound, (point, view)


def test_loss_reductions(path):
    z = testing.randn(5, 3, 7)
    each = memkern.alignment(z, backend=path)
    testing.assert_same_bits(memkern.alignment_loss(z, reduction="none", backend=path), each)
    testing.assert_same_bits(memkern.alignment_loss(z, reduction="sum", backend=path), each.sum())
    testing.assert_same_bits(memkern.alignment_loss(z, backend=path), each.mean())
