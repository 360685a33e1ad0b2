"""The races on a GPU: every op beside eager torch and torch.compile, on any device and backend (see bench_gpu.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import memkern
from bench import clocks, data, peers, roofline
from bench.harness import Case, Peer
from memkern import reference
from memkern.ops.class_sums import class_sums
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity

Make = Callable[[str, str, torch.dtype, str], Case]  # from device, backend, dtype and the shape's text
Both = tuple[Tensor, Tensor]


def alignment(device: str, backend: str, dtype: torch.dtype, shape: str, *, normalize: bool = False) -> Case:
    z = data.views(*_sizes(shape), dtype).to(device)
    error = data.error_of_points(data.in_chunks(lambda part: reference.alignment(part, normalize=normalize), z))
    call = lambda: memkern.alignment(z, normalize=normalize, backend=backend)  # noqa: E731
    return _case("alignment", shape, z, error, call, _alignments(z, normalize), normalize)


def gradient(device: str, backend: str, dtype: torch.dtype, shape: str, *, normalize: bool = False) -> Case:
    z = data.views(*_sizes(shape), dtype).to(device)
    ones = torch.ones(len(z), device=device)
    truth = [reference.alignment_backward(ones[: len(p)], p, normalize=normalize) for p in z.split(64)]
    error = data.error_of_gradient(torch.cat(truth))

    def ours(leaf: Tensor) -> Tensor:
        return memkern.alignment(leaf, normalize=normalize, backend=backend)

    others = [
        replace(peer, call=peers.with_gradient(formula, z)) for peer, formula in _alignment_formulas(z.dtype, normalize)
    ]
    call = peers.with_gradient(ours, z)
    return _case("alignment forward+backward", shape, z, error, call, others, normalize)


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
    call = lambda: memkern.unit_means(x, view_dim=1, unit_dim=unit_dim, backend=backend)  # noqa: E731
    return _case("unit_means", shape, x, error, call, others, layout=layout)


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
    call = lambda: selectivity(x, unit_dim=unit_dim, backend=backend)  # noqa: E731
    return _case("selectivity", shape, x, error, call, others, layout=layout)


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
    call = lambda: tuple(memkern.layer_stats(x, normalize=False, backend=backend))  # noqa: E731
    return _case("layer_stats", shape, x, error, call, others, layout="NCHW")


def median(device: str, backend: str, dtype: torch.dtype, shape: str) -> Case:
    x = data.activations(*_sizes(shape), dtype=dtype).to(device)
    error = data.error_plain(reference.median_of_others(x))
    others = [
        Peer("torch sort", lambda: peers.torch_sort(x)),
        Peer("torch kthvalue", lambda: peers.torch_kthvalue(x)),
    ]
    return _case("median_of_others", shape, x, error, lambda: median_of_others(x, backend=backend), others)


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
    call = lambda: class_sums(x, labels, classes=classes, backend=backend)  # noqa: E731
    return _case("class_sums", shape, x, error, call, others)


# ---- what they share ------------------------------------------------------------------------------------------------


def _sizes(shape: str) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.split(" ")[-1].split("x"))


def _case(
    op: str, shape: str, x: Tensor, error: Callable[[Any], tuple[float, float]], ours: Callable[[], Any],
    others: list[Peer], normalize: bool = False, *, layout: str = "contiguous",
) -> Case:  # fmt: skip
    flat = roofline.block(x)
    return Case(
        op, _sizes(shape), x.dtype, x.numel() * x.element_size(), error, error(others[0].call())[0], layout=layout,
        variant="unit" if normalize else "",
        peers=[Peer(roofline.SUM, flat.sum, "yardstick"), Peer("x.clone()", flat.clone, "yardstick"),
               Peer("memkern", ours, "ours"), *others],
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
    "median": (median, ["5000x2048*", "50000x512"], "9x4"),
    "class_sums": (sums, ["50000x2048*"], "30x4"),
}  # fmt: skip
FLOAT32_ONLY = ("median", "class_sums")
