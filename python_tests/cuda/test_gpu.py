"""What only a GPU can show; every test is skipped without one. ``scripts/verify_gpu.sh`` runs them.

Those named `sanitized` are small enough for compute-sanitizer, `profiled` is what the profiler looks at.
"""

import dataclasses
import warnings

import pytest
import torch
import torch.distributed as dist

import memkern
from memkern import dispatch, reference
from memkern.ops.class_sums import class_sums
from memkern.ops.layer_stats import layer_stats_many
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity
from python_tests.helpers.testing import assert_same_bits, expected_alignment, misaligned, randn, relu_features

GPU = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU in this machine")


@pytest.fixture(params=["cuda", "triton"])
def backend(request):
    reason = dispatch.why_not(request.param, GPU)
    if reason:
        pytest.skip(reason)
    return request.param


def gradient(z, backend):
    leaf = z.detach().requires_grad_()
    memkern.alignment(leaf, backend=backend).sum().backward()
    return leaf.grad


# Every op as a function of [points, views, units] activations.
CALLS = {
    "alignment": lambda x, backend: (memkern.alignment(x, backend=backend),),
    "alignment_backward": lambda x, backend: (gradient(x, backend),),
    "unit_means": lambda x, backend: (memkern.unit_means(x, view_dim=1, backend=backend),),
    "selectivity": lambda x, backend: tuple(selectivity(x, unit_dim=2, backend=backend)[:4]),
    "layer_stats": lambda x, backend: tuple(memkern.layer_stats(x, backend=backend)),
    "layer_stats_many": lambda x, backend: tuple(
        part for stats in layer_stats_many([x, x[:, :, :20].contiguous()] * 9, backend=backend) for part in stats
    ),
    "median_of_others": lambda x, backend: (median_of_others(x[:, 0].float(), backend=backend),),
    "class_sums": lambda x, backend: (
        class_sums(x[:, 0].float(), torch.arange(len(x), device=x.device) % 3, classes=4, backend=backend),
    ),
}


@pytest.mark.parametrize("shape", [(5, 3, 137), (6, 10, 264), (530, 3, 24)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_sanitized(name, backend, dtype, shape):
    """Close to the reference: odd rows and whole packs, many views, many points; from an odd address too."""
    for place in (torch.Tensor.contiguous, misaligned):
        x = place(relu_features(*shape, dtype=dtype))
        there = torch.empty(x.numel() + 1, dtype=dtype, device=GPU)[1:].view(x.shape).copy_(x)
        for got, want in zip(CALLS[name](there, backend), CALLS[name](there.cpu(), "reference"), strict=True):
            assert got.device.type == "cuda"
            torch.testing.assert_close(
                got.cpu(), want, rtol=2e-2 if got.dtype == dtype != torch.float64 else 1e-5, atol=1e-5
            )


@pytest.mark.parametrize("pixel", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("transform", ["simclr", "byol-2"])
def test_sanitized_views(transform, pixel, backend):
    """Those of the CPU kernels, within 1/255 and 1e-5 before the normalization; images of one size and of several."""
    batch = torch.randint(256, (3, 3, 40, 37), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    batch = batch if pixel == torch.uint8 else batch.float() / 255
    spec = dataclasses.replace(memkern.transforms.PRESETS[transform], size=32, blur_size=5, solarize=0.0, std=0.5)
    options = {"n_views": 2, "transform": spec, "seed": 0, "index": range(3)}
    for images in (batch, [batch[0], batch[1, :, :20], batch[2, :, :, :9]]):
        there = images.to(GPU) if isinstance(images, torch.Tensor) else [image.to(GPU) for image in images]
        got = memkern.views(there, backend=backend, **options)
        assert got.device.type == "cuda"
        want = memkern.views(images, **options)
        assert (got.cpu() - want).abs().max() <= (2.01 / 255 if pixel == torch.uint8 else 2e-5)
        assert_same_bits(memkern.views(there, backend=backend, **options), got)


@pytest.mark.parametrize("name", CALLS)
def test_same_bits_again(name, backend):
    x = relu_features(64, 6, 5000).to(GPU)
    first = CALLS[name](x, backend)
    for _ in range(5):
        for got, want in zip(CALLS[name](x, backend), first, strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("name", CALLS)
def test_no_sync(name, backend):
    x = relu_features(16, 3, 100).to(GPU)
    CALLS[name](x, backend)  # compiles, loads
    torch.cuda.set_sync_debug_mode("error")
    try:
        CALLS[name](x, backend)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", CALLS)
def test_in_a_cuda_graph(name, backend):
    x, other = relu_features(16, 3, 100).to(GPU), randn(16, 3, 100).to(GPU)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        CALLS[name](x, backend)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = CALLS[name](x, backend)
    want = CALLS[name](other, backend)
    x.copy_(other)
    graph.replay()
    for got, expected in zip(captured, want, strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("name", CALLS)
def test_on_the_current_stream(name, backend):
    """The input is written late on another stream; a kernel on the default stream would read it too early."""
    x, stream = relu_features(64, 6, 5000).to(GPU), torch.cuda.Stream()
    want = CALLS[name](x, backend)
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(x)
        got = CALLS[name](late, backend)
    stream.synchronize()
    for mine, expected in zip(got, want, strict=True):
        assert_same_bits(mine, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("name", CALLS)
def test_on_the_device_of_the_tensor(name, backend):
    x = relu_features(16, 3, 100)
    for got, want in zip(CALLS[name](x.to("cuda:1"), backend), CALLS[name](x.to("cuda:0"), backend), strict=True):
        assert got.device == torch.device("cuda:1")
        assert_same_bits(got.cpu(), want.cpu())


def test_offsets_past_the_32nd_bit(backend):
    """More than 2^31 elements, forward and backward: the last point is read, and written, where it lies."""
    z = torch.zeros(2, 4, 2**28 + 64, dtype=torch.bfloat16, device=GPU)
    z[1, :, -32:] = randn(4, 32, dtype=torch.bfloat16).to(GPU)
    small = z[1:, :, -32:].cpu()
    got = memkern.alignment(z, backend=backend)
    want = expected_alignment(small)
    assert got[0] == 0
    torch.testing.assert_close(got[1:].cpu().double(), want.oracle, rtol=1e-5, atol=0)
    grad = gradient(z, backend)[1, :, -32:].cpu()
    truth = reference.alignment_backward(torch.ones(1), small)[0]
    torch.testing.assert_close(grad.double(), truth, rtol=2e-2, atol=1e-3)


def test_auto_prefers_cuda_then_triton():
    runs = [name for name in ("cuda", "triton") if not dispatch.why_not(name, GPU)]
    assert runs, "neither GPU backend runs on this machine"
    x = relu_features(4, 3, 10).to(GPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_bits(memkern.alignment(x), memkern.alignment(x, backend=runs[0]))


def test_tensors_on_different_devices_raise():
    x, labels = relu_features(4, 3, 10), torch.tensor([0, 1, 0, 1])
    with pytest.raises(RuntimeError, match="on one device"):
        memkern.sslmem(x.to(GPU), x)
    state = memkern.UnitMem(view_dim=1)
    state.update(x)
    with pytest.raises(RuntimeError, match="on one device"):
        state.update(x.to(GPU))
    assert memkern.classmem(x.to(GPU), labels, view_dim=1).device.type == "cuda"  # ids and labels may come from the CPU


def _sync(rank, world, folder):
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    x, metric = relu_features(6, 3, 5), memkern.UnitMem(view_dim=1)
    metric.update(x[rank::world].to(GPU), ids=torch.arange(6)[rank::world])
    metric.sync()
    assert metric.compute().device == torch.device("cuda", rank)
    torch.testing.assert_close(metric.compute().cpu(), memkern.unitmem(x, view_dim=1))
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_nccl_available(), reason="this torch has no NCCL")
def test_sync_over_nccl(tmp_path):
    """One process per GPU, two at most: the code that test_distributed.py runs over gloo."""
    world = min(2, torch.cuda.device_count())
    torch.multiprocessing.spawn(_sync, args=(world, str(tmp_path)), nprocs=world)


def test_profiled(backend):
    """One launch of everything, from memory rather than from caches."""
    x = torch.randn(4000, 10, 2048, device=GPU)
    for call in CALLS.values():
        call(x, backend)
    torch.cuda.synchronize()
