"""The Triton gradient of alignment against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from support import on_cpu, on_device, shape_name
from torch import Tensor

from memkern import reference
from memkern.triton_kernels import launches
from memkern.triton_kernels.alignment import alignment
from memkern.triton_kernels.alignment_backward import alignment_backward
from memkern.triton_kernels.memory import accumulate_dtype
from python_tests.helpers import testing

OPTIONS = [("all", True), ("anchor", False)]  # between them every path
ALL_OPTIONS = [(pairs, normalize) for pairs in ("all", "anchor") for normalize in (True, False)]


def gradient(z: Tensor, upstream: Tensor, pairs: str, normalize: bool) -> Tensor:
    there, anchor = on_device(z), pairs == "anchor"
    _, saved = alignment(there, anchor, normalize, True)
    return on_cpu(alignment_backward(on_device(upstream), there, saved, anchor, normalize))


def expected(z: Tensor, upstream: Tensor, pairs: str, normalize: bool) -> testing.Expected:
    """Against plain torch's own error: a gradient is a sum of unit vectors over a norm, so their size counts."""

    def oracle(z: Tensor) -> Tensor:
        return reference.alignment_backward(upstream, z, pairs=pairs, normalize=normalize)

    def plain(z: Tensor) -> Tensor:
        leaf = z.clone().requires_grad_()
        testing.plain_alignment(leaf, pairs=pairs, normalize=normalize).backward(upstream.to(z.dtype))
        return leaf.grad

    def scale(z: Tensor) -> Tensor:
        norms = z.flatten(2).norm(dim=2) if normalize else torch.ones(z.shape[:2], dtype=torch.float64)
        per_view = upstream.double().abs()[:, None] * (2 / z.shape[1] if pairs == "all" else 1.0)
        return (per_view / norms).reshape(*z.shape[:2], *[1] * (z.dim() - 2)).expand(z.shape)

    return testing.expected(oracle, plain, z, scale=scale)


def check(z: Tensor, memory: Tensor | None = None, options: list[tuple[str, bool]] = OPTIONS) -> None:
    upstream = testing.randn(z.shape[0], dtype=accumulate_dtype(z.dtype))
    for pairs, normalize in options:
        got = gradient(z if memory is None else memory, upstream, pairs, normalize)
        testing.assert_within(got, expected(z, upstream, pairs, normalize), z.dtype, (pairs, normalize))


@pytest.mark.parametrize("shape", [(2, 2, 1), (1, 5, 33), (1, 6, 600)], ids=shape_name)
def test_shapes(shape):
    check(testing.randn(*shape))


@pytest.mark.numbers
def test_options():
    check(testing.randn(2, 5, 33), options=ALL_OPTIONS)


@pytest.mark.numbers
def test_more_views_than_coefficients_at_once(monkeypatch):
    monkeypatch.setitem(launches._VALUES, ("alignment_backward", "coefficients"), 16)  # 2 rows of 8 views
    check(testing.randn(1, 5, 20))


def test_dtypes(dtype):
    check(testing.relu_features(2, 3, 130, dtype=dtype))


@pytest.mark.numbers
@pytest.mark.parametrize("family", testing.FAMILIES)
def test_families(family):
    check(testing.FAMILIES[family](1, 3, 150, dtype=torch.float32), options=[("all", True)])


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_layouts(layout):
    z = testing.randn(2, 3, 4, 3, 5)
    check(z, testing.LAYOUTS[layout](z), options=[("all", True)])


@pytest.mark.numbers
@pytest.mark.parametrize("normalize", [True, False])
def test_zero_distance_has_gradient_zero(normalize):
    z = testing.randn(2, 3, 11)
    z[:, 1] = z[:, 0]
    got = gradient(z, torch.ones(2), "all", normalize)
    testing.assert_same_bits(got[:, 0], got[:, 1])
    assert got.isfinite().all()
    assert (got[:, 2] != 0).any()


@pytest.mark.numbers
def test_zero_and_clamped_norms():
    """F.normalize maps 0 to 0 and divides it by 1e-12 in the backward; below the clamp the divisor is a constant."""
    z = testing.randn(3, 3, 11)
    z[0, 1] = 0
    z[1] = 0
    z[2, 2] *= 1e-14
    upstream = torch.tensor([1.0, -2.0, 0.5])
    got = gradient(z, upstream, "all", True)
    want = reference.alignment_backward(upstream, z)
    bound = 16 * torch.finfo(torch.float32).eps * 3 / z.double().norm(dim=2).clamp_min(1e-12)
    assert ((got - want).norm(dim=2) <= bound).all()


@pytest.mark.numbers
def test_nan_reaches_the_pairs_it_is_in():
    z = testing.randn(2, 4, 11)
    z[0, 2, 3] = torch.nan
    upstream = torch.ones(2)
    for pairs, normalize in ALL_OPTIONS:
        got = gradient(z, upstream, pairs, normalize).isnan()
        want = reference.alignment_backward(upstream, z, pairs=pairs, normalize=normalize).isnan()
        assert torch.equal(got.any(2), want.any(2)), (pairs, normalize)


@pytest.mark.numbers
def test_same_bits_again():
    z, upstream = testing.relu_features(2, 5, 300), testing.randn(2)
    testing.assert_same_bits(gradient(z, upstream, "all", True), gradient(z, upstream, "all", True))


def test_no_points():
    assert gradient(torch.empty(0, 3, 5), torch.empty(0), "all", True).shape == (0, 3, 5)
