"""Layer statistics: both metrics from one read of a layer, and as forward hooks on every layer of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import memkern
from bench import data, hooks, peers, peers_numba, roofline
from bench.conftest import record
from bench.harness import Case, Peer
from memkern.reference import layer_stats as reference

# Layout and shape [N, V, U, H, W].
SHAPES = [
    "NCHW 64x10x64x32x32", "NCHW 64x10x256x8x8*", "NCHW 512x10x256x4x4", "NCHW 1000x10x256x2x2",
    "NCHW 64x4x512x14x14", "NCHW 64x10x64x56x56", "channels-last 64x10x256x8x8", "channels-last 64x10x64x56x56",
    "NCHW 33x3x65x7x7",
]  # fmt: skip

Pair = tuple[Tensor, Tensor]


def _error(alignment: Tensor, means: Tensor) -> Callable[[Any], tuple[float, float]]:
    """Worst error of both results (a peer that gives one alone is checked on that one)."""
    points, half = data.error_of_points(alignment), data.error_plain(means)

    def error(result: Any) -> tuple[float, float]:
        if isinstance(result, Tensor):
            return points(result) if result.dim() == 1 else half(result)
        (worst, apart), other = points(result[0]), half(result[1])[0]
        return max(worst, other), max(apart, other)

    return error


def _case(text: str, normalize: bool) -> Case:
    layout, shape = text.split(" ")
    sizes = tuple(map(int, shape.split("x")))
    points, views, units, height, width = sizes
    z = data.views(points, views, units * height * width).abs_()
    last = layout == "channels-last"
    x = z.view(points, views, height, width, units).movedim(-1, 2) if last else z.view(sizes)
    alignment, means = data.in_chunks(lambda part: reference(part, normalize=normalize), x)
    error = _error(alignment, means)

    def both(formula: peers.Formula) -> Callable[[Tensor], Pair]:
        formula = peers.unit(formula) if normalize else formula
        flat = (lambda a: a.permute(0, 1, 3, 4, 2).flatten(2)) if last else (lambda a: a.flatten(2))
        return lambda a: (formula(flat(a)), a.mean((1, 3, 4)))

    loop, gram, rows = both(peers.pair_loop), both(peers.gram), both(peers.row_loop)
    compiled = peers.compiled(gram)
    flat, maps = z.numpy(), z.view(points, views * height * width, units).numpy() if last else x.flatten(3).numpy()
    numba_alignment = peers_numba.unit_alignment if normalize else peers_numba.alignment
    numba_means = peers_numba.rows_means if last else peers_numba.maps_means

    def ours_alignment() -> Tensor:
        return memkern.alignment(x, normalize=normalize, backend="cpu")

    def ours_means() -> Tensor:
        return memkern.unit_means(x, view_dim=1, unit_dim=2, backend="cpu")

    return Case(
        "layer_stats", sizes, torch.float32, 4 * z.numel(), error, error(loop(x))[0], layout=layout,
        variant="unit" if normalize else "",
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(z)],
            Peer("memkern", lambda: tuple(memkern.layer_stats(x, normalize=normalize, backend="cpu")), "ours"),
            Peer("memkern alignment alone", ours_alignment, "variant"),
            Peer("memkern unit_means alone", ours_means, "variant"),
            Peer("memkern alignment, then unit_means", lambda: (ours_alignment(), ours_means()), "variant"),
            Peer("torch mean + gram", lambda: gram(x), inexact=True),
            Peer("torch mean + row loop", lambda: rows(x)),
            Peer("torch.compile mean + gram", lambda: compiled(x), inexact=True),
            Peer("numba, both", lambda: (numba_alignment(flat), numba_means(maps))),
        ],
    )  # fmt: skip


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "unit"])
@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_layer(race: Any, shape: str, normalize: bool) -> None:
    race(_case(shape, normalize))


# Model, images x views, side of the images.
MODELS = ["resnet9 16x10 32*", "resnet9 64x2 32", "resnet18 10x10 32", "resnet18 2x10 224"]


@pytest.mark.parametrize("model", data.shapes(MODELS))
def bench_hooks(
    benchmark: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], quick: bool, model: str
) -> None:
    if model.startswith("resnet18"):
        pytest.importorskip("torchvision", reason="needs torchvision for ResNet18")
    forward = hooks.HookedForward(model)
    forward.check()
    benchmark.pedantic(forward.round, rounds=5 if quick else 9, iterations=1)
    record(request, capsys, forward.result())
