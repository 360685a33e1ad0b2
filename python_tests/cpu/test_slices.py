"""Points so large that several threads share each of them: the same bits as by one thread, and the right numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_pointwise_stats import assert_same_stats, assert_stats, fused, modules_of
from torch import Tensor, nn

import memkern
from memkern import native, reference
from python_tests.helpers import testing

THREADS = (2, 3, 8)
# Slices have 4096 k dims, 16384 at most: one dim more than a slice, a ragged end, as many slices as threads and more.
DIMS = [16384, 16385, 20480, 49152, 70001]


def channels_last(x: Tensor) -> Tensor:
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize(("pairs", "normalize"), [("all", True), ("all", False), ("anchor", True)])
def test_alignment(kernel: str, dims: int, pairs: str, normalize: bool, dtype: torch.dtype) -> None:
    for points, views in ((1, 2), (2, 3), (1, 6)):
        z = testing.relu_features(points, views, dims, dtype=dtype)
        with testing.threads(1):
            want = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=kernel)
        expected = testing.expected_alignment(z, pairs=pairs, normalize=normalize)
        testing.assert_within(want, expected, native.accumulate_dtype(dtype), (points, views))
        for count in THREADS:
            with testing.threads(count):
                got = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=kernel)
            testing.assert_same_bits(got, want)


def test_many_views(kernel: str) -> None:
    """More than one panel of pairs."""
    z = testing.randn(1, 40, 20000)
    with testing.threads(1):
        want = memkern.alignment(z, backend=kernel)
    with testing.threads(3):
        testing.assert_same_bits(memkern.alignment(z, backend=kernel), want)
    torch.testing.assert_close(want.double(), reference.alignment(z), rtol=1e-6, atol=0)


@pytest.mark.parametrize("order", ["planes", "rows"])
@pytest.mark.parametrize("shape", [(3, 80, 83), (64, 21, 30), (2100, 3, 4), (5000, 2, 2), (20000, 1, 1)], ids=str)
def test_layer_stats(kernel: str, shape: tuple[int, ...], order: str, dtype: torch.dtype) -> None:
    """A slice begins within a plane or a row; there may be more units than slices keep sums of."""
    for points, views in ((1, 10), (3, 4)):
        x = testing.relu_features(points, views, *shape, dtype=dtype)
        x = channels_last(x) if order == "rows" else x
        with testing.threads(1):
            want = memkern.layer_stats(x, backend=kernel)
        testing.assert_within(want.alignment, testing.expected_alignment(x), native.accumulate_dtype(dtype), shape)
        testing.assert_within(
            want.unit_means, testing.expected_unit_means(x, unit_dim=2), native.accumulate_dtype(dtype), shape
        )
        for count in THREADS:
            with testing.threads(count):
                got = memkern.layer_stats(x, backend=kernel)
            assert_same_stats([got], [want])


@pytest.mark.parametrize("which", ["batch_norm", "relu", "gelu", "both"])
@pytest.mark.parametrize("order", ["planes", "rows"])
def test_fused_layers(kernel: str, which: str, order: str) -> None:
    families = [testing.randn, lambda *shape: testing.near_parallel(*shape, eps=1e-3, spread=1.0)]
    for make, (points, views) in itertools.product(families, ((1, 3), (2, 7))):
        x = make(points, views, 30, 36, 37)
        x = channels_last(x) if order == "rows" else x
        check_threads(x, modules_of(which, 30))


@pytest.mark.parametrize("order", ["planes", "rows"])
def test_what_lies_between_is_made_again(kernel: str, order: str) -> None:
    """Views that a batch norm only stretches stay nearly parallel: sums cannot tell them apart, elements have to.

    Between two layers there is memory for 1024 to 4096 dims, so the elements are gone by then.
    """
    for points, views, shape in ((3, 4, (5, 30, 31)), (1, 3, (30, 36, 37)), (2, 7, (30, 36, 37))):
        x = testing.near_parallel(points, views, *shape, eps=1e-4, spread=1.0)
        x = channels_last(x) if order == "rows" else x
        modules = modules_of("both", shape[0])
        for value in (modules[0].running_mean, modules[0].bias):
            assert isinstance(value, Tensor)
            value.data.zero_()
        check_threads(x, modules)


def check_threads(x: Tensor, modules: list[nn.Module]) -> None:
    """The statistics of `layer_stats` on what each layer makes, with any number of threads."""
    with testing.threads(1):
        want, stats = fused(x, modules)
    apart = [fused(x, modules[:1])[0]] if len(modules) == 2 else []
    assert_stats(stats, [x, *apart, want])
    for count in THREADS:
        with testing.threads(count):
            got, others = fused(x, modules)
        testing.assert_same_bits(got, want)
        assert_same_stats(others, stats)


def test_fused_in_place(kernel: str) -> None:
    x = testing.randn(1, 5, 30, 36, 37)
    with testing.threads(1):
        want, stats = fused(x.clone(), modules_of("relu", 30), with_input=False)
    with testing.threads(4):
        got, found = fused(x.clone(), modules_of("relu", 30), with_input=False, in_place=True)
    testing.assert_same_bits(got, want)
    testing.assert_same_bits(found[1].alignment, stats[1].alignment)


def test_gradient(kernel: str) -> None:
    """The backward reads distances and norms that the forward kept, of slices added up."""
    z = testing.randn(1, 6, 40001).requires_grad_()
    for count in (1, 4):
        with testing.threads(count):
            z.grad = None
            memkern.alignment(z, backend=kernel).sum().backward()
        want = z.detach().double().requires_grad_()
        reference.alignment(want).sum().backward()
        assert z.grad is not None
        torch.testing.assert_close(z.grad.double(), want.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("flat", [8, 64])
@pytest.mark.parametrize("dims", [2048, 8192, 32768])
@pytest.mark.parametrize("views", [2, 10])
def test_errors_of_views_whose_lengths_differ(kernel: str, views: int, dims: int, flat: int) -> None:
    """Maps of one color each, whose sums are all rounded the same way: no worse than torch's error, or 3e-6.

    A share of the difference of the squares, smaller where there are more dims, is what the distance is made of.
    """
    generator = torch.Generator().manual_seed(dims + flat)
    one, other = torch.rand(2, 20, flat, dtype=torch.float64, generator=generator).repeat(1, 1, dims // flat)
    one = one / one.norm(dim=1, keepdim=True)
    other = other - (other * one).sum(1, keepdim=True) * one
    other = other / other.norm(dim=1, keepdim=True)
    for square, share in itertools.product((0.3, 0.03), (0.42, 0.26, 0.21, 0.15, 0.11)):
        cosine, gap = 1 - square / 2, square / share - square
        longer = (2 + gap + ((2 + gap) ** 2 - 4) ** 0.5) / 2
        turned = longer * (cosine * one + (1 - cosine**2) ** 0.5 * other)
        a, b = one.float(), turned.float()
        want = (torch.nn.functional.normalize(a.double()) - torch.nn.functional.normalize(b.double())).norm(dim=1)
        usual = (torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)).norm(dim=1)
        z = torch.stack([a, b] * (views // 2), dim=1)
        pairs_apart = (views // 2) ** 2 / (views * (views - 1) // 2)
        got = memkern.alignment(z, backend=kernel).double() / pairs_apart
        error, plain = (((value - want) / want).abs().max() for value in (got, usual))
        assert error <= max(plain, 3e-6), (square, share, float(error), float(plain))
