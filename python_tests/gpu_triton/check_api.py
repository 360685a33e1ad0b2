"""The public functions and metrics with ``backend="triton"``: options, gradients and layouts reach the kernels."""

from __future__ import annotations

import pytest
import torch
from support import on_cpu, on_device

import memkern
from python_tests.helpers.testing import assert_same_bits, in_order, randn, relu_features

pytestmark = pytest.mark.numbers
LABELS = torch.tensor([0, 2, 0, 1, 2, 2])


def close(got, want):
    torch.testing.assert_close(on_cpu(got), want.to(got.dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pairs", ["all", "anchor"])
@pytest.mark.parametrize("normalize", [True, False])
def test_alignment(pairs, normalize):
    options = {"pairs": pairs, "normalize": normalize}
    z = relu_features(2, 3, 20)
    close(memkern.alignment(on_device(z), backend="triton", **options), memkern.alignment(z, **options))
    leaf, oracle = on_device(z.clone()).requires_grad_(), z.clone().requires_grad_()
    memkern.alignment_loss(leaf, backend="triton", **options).backward()
    memkern.alignment_loss(oracle, backend="reference", **options).backward()
    close(leaf.grad, oracle.grad)


def test_layer_stats_and_its_gradient():
    x = relu_features(2, 3, 4, 5)
    leaf, oracle = on_device(x.clone()).requires_grad_(), x.clone().requires_grad_()
    got = memkern.layer_stats(leaf, backend="triton")
    want = memkern.layer_stats(oracle, backend="reference")
    close(got.alignment.detach(), want.alignment.detach())
    close(got.unit_means, want.unit_means)
    got.alignment.sum().backward()
    want.alignment.sum().backward()
    close(leaf.grad, oracle.grad)


@pytest.mark.parametrize("activation", ["raw", "relu", "abs"])
def test_unit_means(activation):
    x = in_order(randn(2, 3, 4, 2, 2), 0, 1, 3, 4, 2)
    options = {"view_dim": 1, "activation": activation}
    close(memkern.unit_means(on_device(x), backend="triton", **options), memkern.unit_means(x, **options))


@pytest.mark.parametrize("rest", ["mean", "median"])
def test_unitmem(rest):
    x, ids = randn(6, 3, 5).abs(), torch.tensor([7, 1, 5, 0, 2, 9])
    options = {"view_dim": 1, "rest": rest}
    got = memkern.unitmem_stats(on_device(x), ids=on_device(ids), backend="triton", **options)
    want = memkern.unitmem_stats(x, ids=ids, **options)
    close(got.score, want.score)
    assert torch.equal(on_cpu(got.index), want.index)
    streamed = memkern.UnitMem(backend="triton", **options)
    for part in (slice(0, 4), slice(4, 6)):
        streamed.update(on_device(x[part]), ids=on_device(ids[part]))
    close(streamed.compute(), want.score)


def test_classmem():
    x = randn(6, 3, 5).abs()
    close(
        memkern.classmem(on_device(x), on_device(LABELS), view_dim=1, backend="triton"),
        memkern.classmem(x, LABELS, view_dim=1),
    )


def test_layermem():
    f, g = randn(4, 3, 10), relu_features(4, 3, 10)
    close(memkern.sslmem(on_device(f), on_device(g), backend="triton"), memkern.sslmem(f, g))


def test_compiled_ops_and_kernels_give_the_same_bits():
    """The way past torch's dispatcher, and the registered op that torch.compile sees."""
    z = on_device(relu_features(2, 3, 20))
    direct = memkern.alignment(z, backend="triton")
    assert_same_bits(on_cpu(direct), on_cpu(torch.ops.memkern.alignment(z, False, True, False, "triton")[0]))
