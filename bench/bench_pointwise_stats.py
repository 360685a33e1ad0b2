"""Pointwise statistics: layers of a network run while they are reduced, beside the layers and then the statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memkern
from bench import data, peers, roofline
from bench.harness import Case, Peer
from memkern.audit.taps.pointwise_modules import pointwise
from memkern.ops.pointwise_stats import pointwise_stats
from memkern.reference import pointwise_stats as reference

# Layers and shape [N, V, U, H, W].
SHAPES = [
    "batch_norm+relu 32x10x32x32x32*", "batch_norm+relu 64x10x256x8x8", "batch_norm 64x10x512x4x4",
    "relu 64x10x64x16x16", "gelu 32x10x768x8x8*",
]  # fmt: skip


def _modules(names: str, units: int) -> list[nn.Module]:
    made = {"batch_norm": nn.BatchNorm2d(units), "relu": nn.ReLU(), "gelu": nn.GELU()}
    norm = made["batch_norm"]
    norm.running_mean, norm.running_var = data.activations(2, units).abs() + 0.1
    return [made[name].eval().requires_grad_(False) for name in names.split("+")]


def _error(wanted: tuple[Tensor, ...]) -> Callable[[Any], tuple[float, float]]:
    """Worst error of output, alignments and unit means, each beside the largest of its kind."""

    def error(result: Any) -> tuple[float, float]:
        pairs = zip(result, wanted, strict=True)
        return max(float((got - want).abs().max() / want.abs().max()) for got, want in pairs), 0.0

    return error


def _case(text: str) -> Case:
    names, shape = text.split(" ")
    sizes = tuple(map(int, shape.split("x")))
    x = data.views(*sizes[:2], sizes[2] * sizes[3] * sizes[4]).view(sizes)
    modules = _modules(names, sizes[2])
    layers = [layer for module in modules if (layer := pointwise(module)) is not None]
    error = _error(reference(x, layers))

    def apart(stats: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """Torch's layers, and the statistics of what each reads and makes."""
        flat, found = x.flatten(0, 1), [stats(x)]
        for module in modules:
            flat = module(flat)
            found.append(stats(flat.unflatten(0, sizes[:2])))
        return flat.unflatten(0, sizes[:2]), *(torch.stack(each) for each in zip(*found, strict=True))

    gram = peers.unit(peers.gram)

    def of_torch() -> tuple[Tensor, ...]:
        return apart(lambda y: (gram(y.flatten(2)), y.mean((1, 3, 4))))

    def of_memkern() -> tuple[Tensor, ...]:
        return apart(lambda y: tuple(memkern.layer_stats(y, backend="cpu")))

    with torch.inference_mode():
        usual = error(of_memkern())[0]
    return Case(
        "pointwise_stats", sizes, torch.float32, 8 * x.numel(), error, usual, layout="NCHW", variant=names,
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(x)],
            Peer("memkern", lambda: tuple(pointwise_stats(x, layers, backend="cpu")), "ours"),
            Peer("torch's layers, then layer_stats of each", _without_grad(of_memkern), "variant"),
            Peer("torch's layers, then mean + gram of each", _without_grad(of_torch), inexact=True),
        ],
    )  # fmt: skip


def _without_grad(call: Callable[[], tuple[Tensor, ...]]) -> Callable[[], tuple[Tensor, ...]]:
    return torch.inference_mode()(call)


@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_pointwise(race: Any, shape: str) -> None:
    race(_case(shape))
