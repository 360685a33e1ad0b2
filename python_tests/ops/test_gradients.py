"""Gradients of alignment in other distances than l2: by hand, by differences, and beside torch's own in float64."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

import memkern
from memkern import native
from python_tests.helpers import testing
from python_tests.helpers.error_budgets import plain_alignment

OPTIONS = [("l1", True), ("l1", False), ("cosine", True), ("angular", True)]
each_distance = pytest.mark.parametrize(("distance", "normalize"), OPTIONS)


def gradient(z: Tensor, path: str, upstream: Tensor | None = None, **options: object) -> Tensor:
    leaf = z.detach().requires_grad_()
    out = memkern.alignment(leaf, backend=path, **options)
    out.backward(torch.ones_like(out) if upstream is None else upstream)
    assert leaf.grad.dtype == z.dtype
    return leaf.grad


@each_distance
@pytest.mark.parametrize("pairs", ["all", "anchor"])
def test_gradcheck(path, distance, normalize, pairs):
    z = testing.randn(2, 4, 5, dtype=torch.float64).requires_grad_()
    options = {"distance": distance, "normalize": normalize, "pairs": pairs, "backend": path}
    assert torch.autograd.gradcheck(functools.partial(memkern.alignment, **options), (z,))


@each_distance
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_beside_torch(path, distance, normalize, layout, dtype):
    """The gradient is made in float64: all it may lose is the rounding of its dtype, and of sums of V + D numbers."""
    z = testing.LAYOUTS[layout](testing.randn(4, 3, 4, 3, 5, dtype=dtype))
    upstream = testing.randn(len(z), dtype=native.accumulate_dtype(dtype))
    for pairs in ("all", "anchor"):
        options = {"distance": distance, "normalize": normalize, "pairs": pairs}
        leaf = z.detach().double().requires_grad_()
        (plain_alignment(leaf, **options) * upstream).sum().backward()
        got, size = gradient(z, path, upstream, **options).double(), leaf.grad.abs().max().item() if len(z) else 0.0
        rounding = (z.shape[1] + z[0, 0].numel() if len(z) else 0) * torch.finfo(torch.float64).eps * size
        smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        torch.testing.assert_close(got, leaf.grad, rtol=torch.finfo(dtype).eps, atol=rounding + smallest)


def test_l1_by_hand(path, dtype):
    """Signs of the differences to the other views, and 0 of equal elements, over three pairs."""
    z = torch.tensor([[[0.0, 5.0], [1.0, 5.0], [3.0, 4.0]]], dtype=dtype)
    want = torch.tensor([[[-2.0, 1.0], [0.0, 1.0], [2.0, -2.0]]], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient(z, path, distance="l1", normalize=False), want.to(dtype))
    want = torch.tensor([[[-2.0, 1.0], [1.0, 0.0], [1.0, -1.0]]], dtype=dtype) / 2  # of the anchor alone
    torch.testing.assert_close(gradient(z, path, distance="l1", normalize=False, pairs="anchor"), want)


@pytest.mark.parametrize(("distance", "size"), [("l1", 1.0), ("cosine", 1.0), ("angular", 1 / math.pi)])
def test_a_right_angle_by_hand(path, dtype, distance, size):
    """The views turn towards each other; one twice as long turns half as far."""
    z = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]], dtype=dtype)
    want = torch.tensor([[[0.0, -size / 2], [-size / 4, 0.0]]], dtype=dtype)
    torch.testing.assert_close(gradient(z, path, distance=distance), want)


@pytest.mark.parametrize("distance", ["l1", "cosine", "angular"])
def test_kinks_have_gradient_zero(path, dtype, distance):
    """Equal views, one direction, zeros; in "angular" opposite views."""
    row = torch.tensor([1.0, 2.0, -3.0], dtype=dtype)
    z = torch.stack([row.repeat(3, 1), row * torch.tensor([[1.0], [3.0], [7.0]], dtype=dtype), 0 * row.repeat(3, 1)])
    got = gradient(z, path, distance=distance)
    assert (got[[0, 2]] == 0).all()
    assert got.abs().max() <= {"l1": 0, "cosine": 4 * torch.finfo(torch.float64).eps, "angular": 1}[distance]
    assert (gradient(torch.stack([row, -row])[None], path, distance="angular") == 0).all()
    raw = gradient(z[[0, 2]], path, distance="l1", normalize=False)
    assert (raw == 0).all()


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 1.0, math.pi - 1e-3, math.pi - 1e-6])
def test_angular_turns_alike_at_every_angle(path, angle):
    """Of unit length the gradient is 1 / pi long and across the view, from nearly equal views to nearly opposite."""
    z = torch.tensor([[[1.0, 0.0], [math.cos(angle), math.sin(angle)]]], dtype=torch.float64)
    across = torch.tensor([[[0.0, -1.0], [-math.sin(angle), math.cos(angle)]]], dtype=torch.float64)
    rounding = 16 * torch.finfo(torch.float64).eps / math.sin(angle)  # of the inputs: an angle is known so well
    torch.testing.assert_close(gradient(z, path, distance="angular"), across / math.pi, rtol=0, atol=rounding)


@each_distance
def test_what_is_not_finite_stays_in_its_point(path, distance, normalize, dtype):
    z = testing.randn(3, 3, 7, dtype=dtype)
    z[1, 2, 4] = math.nan
    got = gradient(z, path, distance=distance, normalize=normalize)
    assert got[[0, 2]].isfinite().all()
    assert got[1, 2, 4].isnan()


@each_distance
def test_other_functions_have_it(path, distance, normalize):
    options = {"distance": distance, "normalize": normalize, "backend": path}
    x = testing.randn(4, 3, 5, 2)
    leaf = x.clone().requires_grad_()
    memkern.layer_stats(leaf, view_sums=True, **options).alignment.sum().backward()
    want = gradient(x, path, distance=distance, normalize=normalize)
    testing.assert_same_bits(leaf.grad, want)
    f, g = x.clone().requires_grad_(), x.clone().requires_grad_()
    (memkern.sslmem(f, g, **options).sum() + memkern.alignment_loss(g, reduction="sum", **options)).backward()
    testing.assert_same_bits(f.grad, -want)
    testing.assert_same_bits(g.grad, 2 * want)


@each_distance
def test_compiled(path, distance, normalize):
    x = testing.randn(4, 3, 5, dtype=torch.float64)
    loss = functools.partial(memkern.alignment_loss, distance=distance, normalize=normalize, backend=path)
    leaf = x.clone().requires_grad_()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(leaf).backward()
    torch.testing.assert_close(leaf.grad, gradient(x, path, distance=distance, normalize=normalize) / 4)


@pytest.mark.parametrize(("distance", "kept"), [("l2", 2), ("l1", 1), ("cosine", 1), ("angular", 1)])
def test_only_what_the_gradient_reads_is_kept(distance, kept):
    """The distances of pairs, for l2; the gradients of the others are made of z alone."""
    found = []
    z = testing.randn(3, 4, 5).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: found.append(x.numel()) or x, lambda x: x):
        memkern.alignment(z, distance=distance).sum().backward()
    assert len([size for size in found if size]) == kept
