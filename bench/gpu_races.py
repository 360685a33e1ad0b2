"""The races on a GPU: every op beside eager torch and torch.compile, on any device and backend (see bench_gpu.py).

Beside the call that a user makes stand two more ways to run the same kernels: the other GPU backend, and a CUDA graph
of the call, whose time holds no launches by Python.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import memkern
from bench import clocks, data, peers, roofline
from bench.bench_views import kornia_views, torchvision_views
from bench.harness import Case, Peer
from memkern import dispatch, reference
from memkern.ops.class_sums import class_sums
from memkern.ops.layer_stats import layer_stats_many
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity
from memkern.transforms import PRESETS

Make = Callable[[str, str, torch.dtype, str], Case]  # from device, backend, dtype and the shape's text
Ours = Callable[[str], Any]  # the call of memkern, on the backend named
Both = tuple[Tensor, Tensor]


def alignment(device: str, backend: str, dtype: torch.dtype, shape: str, *, normalize: bool = False) -> Case:
    z = data.views(*_sizes(shape), dtype).to(device)
    error = data.error_of_points(data.in_chunks(lambda part: reference.alignment(part, normalize=normalize), z))
    call = lambda name: memkern.alignment(z, normalize=normalize, backend=name)  # noqa: E731
    return _case("alignment", shape, z, error, backend, call, _alignments(z, normalize), normalize)


def gradient(device: str, backend: str, dtype: torch.dtype, shape: str, *, normalize: bool = False) -> Case:
    z = data.views(*_sizes(shape), dtype).to(device)
    ones = torch.ones(len(z), device=device)
    truth = [reference.alignment_backward(ones[: len(p)], p, normalize=normalize) for p in z.split(64)]
    error = data.error_of_gradient(torch.cat(truth))

    def ours(name: str) -> Tensor:
        return peers.with_gradient(lambda leaf: memkern.alignment(leaf, normalize=normalize, backend=name), z)()

    others = [
        replace(peer, call=peers.with_gradient(formula, z)) for peer, formula in _alignment_formulas(z.dtype, normalize)
    ]
    return _case("alignment forward+backward", shape, z, error, backend, ours, others, normalize)


def means(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    layout, x, unit_dim = data.in_layout(shape, dtype)
    x = x.to(device)
    error = data.error_plain(data.in_chunks(lambda part: reference.unit_means(part, unit_dim=unit_dim), x))
    compiled = peers.compiled(lambda a: peers.means_float32(a, unit_dim))
    others = [
        Peer("torch mean in float32", lambda: peers.means_float32(x, unit_dim)),
        Peer("torch mean", lambda: peers.means(x, unit_dim), inexact=dtype != torch.float32),
        Peer("torch.compile mean", lambda: compiled(x)),
    ]
    call = lambda name: memkern.unit_means(x, view_dim=1, unit_dim=unit_dim, backend=name)  # noqa: E731
    return _case("unit_means", shape, x, error, backend, call, others, layout=layout)


def state(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    layout, x, unit_dim = data.in_layout(shape, dtype)
    x = x.to(device)
    truth = data.in_chunks(lambda part: reference.unit_means(part, unit_dim=unit_dim), x)
    peak = truth.amax(0)
    rest = truth.sum(0) - peak

    def error(result: Any) -> tuple[float, float]:
        at_index = truth.gather(0, result[1][None].long())[0]
        value = max(data.worst(result[0], peak), data.worst(result[2], rest), data.worst(at_index, peak))
        return value, value

    formula = lambda a: peers.selectivity_of(peers.means_float32(a, unit_dim))  # noqa: E731
    compiled = peers.compiled(formula)
    others = [Peer("torch mean, max, sum", lambda: formula(x)), Peer("torch.compile of it", lambda: compiled(x))]
    call = lambda name: selectivity(x, unit_dim=unit_dim, backend=name)  # noqa: E731
    return _case("selectivity", shape, x, error, backend, call, others, layout=layout)


def layer(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    points, views, units, height, width = _sizes(shape)
    z = data.views(points, views, units * height * width).abs_().to(dtype).to(device)
    x = z.view(points, views, units, height, width)
    truth = data.in_chunks(lambda part: reference.layer_stats(part, normalize=False), x)
    of_points, of_means = data.error_of_points(truth[0]), data.error_plain(truth[1])

    def error(result: Any) -> tuple[float, float]:
        (worst, apart), other = of_points(result[0]), of_means(result[1])[0]
        return max(worst, other), max(apart, other)

    def both(formula: peers.Formula) -> Callable[[Tensor], Both]:
        return lambda a: (formula(a.float().flatten(2)), a.mean((1, 3, 4), dtype=torch.float32))

    loop, compiled = both(peers.pair_loop), peers.compiled(both(peers.row_loop))
    others = [
        Peer("torch mean + pair loop", lambda: loop(x)),
        Peer("torch mean + gram", lambda: both(peers.gram)(x), inexact=True),
        Peer("torch.compile mean + row loop", lambda: compiled(x)),
    ]
    call = lambda name: tuple(memkern.layer_stats(x, normalize=False, backend=name))  # noqa: E731
    return _case("layer_stats", shape, x, error, backend, call, others, layout="NCHW")


RESNET18 = 5 * [(64, 32)] + 4 * [(128, 16)] + 4 * [(256, 8)] + 4 * [(512, 4)]  # units and edge of each layer at 32 px


def layers(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    """All layers of a ResNet18 for 32-pixel images in one call; a peer takes them one after the other."""
    points, views = _sizes(shape)
    counts = [points * views * units * edge * edge for units, edge in RESNET18]
    memory = data.views(points, views, sum(counts) // points // views).abs_().to(dtype).to(device).view(-1)
    maps = [
        part.view(points, views, units, edge, edge)
        for part, (units, edge) in zip(memory.split(counts), RESNET18, strict=True)
    ]
    truth = [data.in_chunks(lambda part: reference.layer_stats(part, normalize=False), x) for x in maps]
    errors = [data.error_plain(part) for pair in truth for part in pair]

    def error(result: Any) -> tuple[float, float]:
        found = [part for pair in result for part in pair]
        worst = max(error(part)[0] for error, part in zip(errors, found, strict=True))
        return worst, worst

    def one_by_one(a: Tensor) -> Both:
        return peers.row_loop(a.float().flatten(2)), a.mean((1, 3, 4), dtype=torch.float32)

    compiled = peers.compiled(lambda: [one_by_one(x) for x in maps])
    others = [
        Peer("torch mean + row loop", lambda: [one_by_one(x) for x in maps]),
        Peer("torch.compile mean + row loop", compiled),
    ]
    case = _case(
        "layer_stats_many", shape, memory, error, backend,
        lambda name: layer_stats_many(maps, normalize=False, backend=name), others,
    )  # fmt: skip
    alone = lambda: [memkern.layer_stats(x, normalize=False, backend=backend) for x in maps]  # noqa: E731
    case.peers.append(Peer("memkern, layer by layer", alone, "variant"))
    return case


def median(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    x = data.activations(*_sizes(shape), dtype=dtype).to(device)
    error = data.error_plain(reference.median_of_others(x))
    others = [
        Peer("torch sort", lambda: peers.torch_sort(x)),
        Peer("torch kthvalue", lambda: peers.torch_kthvalue(x)),
    ]
    return _case("median_of_others", shape, x, error, backend, lambda name: median_of_others(x, backend=name), others)


def sums(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    x, classes = data.activations(*_sizes(shape), dtype=dtype).to(device), 100
    labels = torch.randint(classes, (len(x),), generator=torch.Generator().manual_seed(0)).to(device)
    error = data.error_plain(reference.class_sums(x, labels, classes=classes))

    def index_add(wide: torch.dtype) -> Tensor:
        return torch.zeros(classes, x.shape[1], dtype=wide, device=device).index_add_(0, labels, x.to(wide))

    others = [
        Peer("torch index_add", lambda: index_add(torch.float32)),
        Peer("torch index_add in float64", lambda: index_add(torch.float64)),
    ]
    call = lambda name: class_sums(x, labels, classes=classes, backend=name)  # noqa: E731
    return _case("class_sums", shape, x, error, backend, call, others)


def views(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    """``dtype`` is that of the views; the images are uint8. The peers draw their own parameters, as they do in use."""
    text, preset = shape.split(" ")
    points, count, edge, size = (int(number) for number in text.split("x"))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (points, 3, edge, edge), dtype=torch.uint8, generator=generator).to(device)
    spec, some = PRESETS[preset], slice(0, 4)  # checked on the first four images
    options: dict[str, Any] = {"transform": preset, "size": size, "dtype": dtype}
    table = memkern.view_params(preset, n_views=count, seed=0, index=range(points), image_size=(edge, edge), size=size)
    truth = reference.views([images[some].cpu()], table[some], size=(size, size), mean=spec.mean, std=spec.std)
    table = table.to(device)

    def error(result: Tensor) -> tuple[float, float]:
        worst = float((result[some].cpu().float() - truth).abs().max())
        return worst, worst

    def unchecked(_: Any) -> tuple[float, float]:
        return 0.0, 0.0

    def call(name: str) -> Tensor:
        drawn: Tensor = memkern.views(images, n_views=count, seed=0, index=range(points), backend=name, **options)
        return drawn

    def given(name: str) -> Tensor:
        drawn: Tensor = memkern.views(images, params=table, backend=name, **options)
        return drawn

    blur = spec.blur > 0
    others = [Peer("torchvision v2 per image", torchvision_views(images, count, size, preset), error=unchecked)]
    if importlib.util.find_spec("kornia"):
        others.append(Peer("kornia batched", kornia_views(images, count, size, blur), error=unchecked))
    ways = ours(call, backend, "cpu")
    ways += [
        replace(peer, name=f"{peer.name}, parameters given", role="variant") for peer in ours(given, backend, device)
    ]
    moved = images.numel() + table.shape[0] * table.shape[1] * 3 * size * size * dtype.itemsize
    out = torch.empty(moved // 4, device=device)
    return Case(
        "views", (points, count, edge, size), dtype, moved, error, 2 / 255 if dtype == torch.float32 else 2**-6,
        variant=preset, peers=[Peer("fill as many bytes", lambda: out.fill_(1.0), "yardstick"), *ways, *others],
        clock=clocks.cuda_events if device != "cpu" else clocks.wall, size=roofline.size_class(moved, images.device),
    )  # fmt: skip


# ---- what they share ------------------------------------------------------------------------------------------------


def _sizes(shape: str) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.split(" ")[-1].split("x"))


def ours(call: Ours, backend: str, device: str) -> list[Peer]:
    """The call a user makes; on a GPU also a CUDA graph of it, and the same two of the other GPU backend."""
    found = [Peer("memkern", lambda: call(backend), "ours")]
    if device == "cpu":
        return found
    found.append(Peer("memkern, CUDA graph", graphed(lambda: call(backend)), "variant"))
    other = "triton" if backend == "cuda" else "cuda"
    if not dispatch.why_not(other, torch.device(device)):
        found.append(Peer(f"memkern, {other}", lambda: call(other), "variant"))
        found.append(Peer(f"memkern, {other}, CUDA graph", graphed(lambda: call(other)), "variant"))
    return found


def graphed(call: Callable[[], Any]) -> Callable[[], Any]:
    """Replays a CUDA graph of a call, captured when it is first wanted."""
    captured: list[tuple[torch.cuda.CUDAGraph, Any]] = []

    def replay() -> Any:
        if not captured:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                call()
            side.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = call()
            captured.append((graph, result))
        graph, result = captured[0]
        graph.replay()
        return result

    return replay


def _case(
    op: str, shape: str, x: Tensor, error: Callable[[Any], tuple[float, float]], backend: str, call: Ours,
    others: list[Peer], normalize: bool = False, *, layout: str = "contiguous",
) -> Case:  # fmt: skip
    flat = roofline.block(x)
    return Case(
        op, _sizes(shape), x.dtype, x.numel() * x.element_size(), error, error(others[0].call())[0], layout=layout,
        variant="unit" if normalize else "",
        peers=[Peer(roofline.SUM, flat.sum, "yardstick"), Peer("x.clone()", flat.clone, "yardstick"),
               *ours(call, backend, x.device.type), *others],
        clock=clocks.cuda_events if x.is_cuda else clocks.wall,
        size=roofline.size_class(x.numel() * x.element_size(), x.device),
    )  # fmt: skip


def _alignment_formulas(dtype: torch.dtype, normalize: bool) -> list[tuple[Peer, peers.Formula]]:
    """Peers that have no call yet, with the formula that each computes; the first is the measure of accuracy."""

    def formula(plain: peers.Formula) -> peers.Formula:
        plain = peers.unit(plain) if normalize else plain
        return plain if dtype == torch.float32 else peers.in_float32(plain)

    nothing = lambda: None  # noqa: E731
    return [
        (Peer("torch pair loop", nothing), formula(peers.pair_loop)),
        (Peer("torch row loop", nothing), formula(peers.row_loop)),
        (Peer("torch.cdist, direct", nothing), formula(peers.cdist_direct)),
        (Peer("torch gram (bmm)", nothing, inexact=True), formula(peers.gram)),
        (Peer("torch.compile row loop", nothing), peers.compiled(formula(peers.row_loop))),
        (Peer("torch.compile gram", nothing, inexact=True), peers.compiled(formula(peers.gram))),
    ]


def _alignments(z: Tensor, normalize: bool) -> list[Peer]:
    def on_z(formula: peers.Formula) -> Callable[[], Tensor]:
        return lambda: formula(z)

    return [replace(peer, call=on_z(formula)) for peer, formula in _alignment_formulas(z.dtype, normalize)]


def unit(make: Callable[..., Case]) -> Make:
    """The same with views of unit length."""
    return lambda *arguments: make(*arguments, normalize=True)


# ---- races ----------------------------------------------------------------------------------------------------------

# Shapes of the races, and small ones with which the tests run every race on the CPU (python_tests/test_bench.py).
RACES: dict[str, tuple[Make, list[str], str]] = {
    "alignment": (
        alignment, ["512x10x2048*", "4000x10x2048*", "20000x2x2048", "64x10x65536", "512x32x2048"], "3x3x20"
    ),
    "alignment unit": (unit(alignment), ["4000x10x2048*", "20000x2x2048"], "3x3x20"),
    "gradient": (gradient, ["512x10x2048*", "4000x10x2048", "20000x2x2048"], "3x3x20"),
    "gradient unit": (unit(gradient), ["4000x10x2048*"], "3x3x20"),
    "unit_means": (
        means,
        ["NCHW 64x10x256x8x8", "NCHW 64x10x64x56x56*", "channels-last 64x10x64x56x56*", "tokens 160x4x197x768"],
        "NCHW 2x3x4x5x5",
    ),
    "selectivity": (state, ["matrix 50000x4096*", "NCHW 64x10x64x56x56"], "matrix 9x5"),
    "layer_stats": (layer, ["64x10x256x8x8*", "64x10x64x56x56"], "2x3x4x2x2"),
    "layers": (layers, ["16x10*"], "2x3"),
    "median": (median, ["5000x2048*", "50000x512"], "9x4"),
    "class_sums": (sums, ["50000x2048*"], "30x4"),
    "views": (
        views, ["512x2x32x32 simclr*", "256x2x256x224 simclr*", "256x2x256x224 simclr-imagenet"], "4x2x16x16 simclr"
    ),
}  # fmt: skip
FLOAT32_ONLY = ("median", "class_sums")
