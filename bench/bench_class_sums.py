"""Sums of unit means over the points of each class, in float64, and ClassMem, which is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import memkern
from bench import data, peers, peers_jax, peers_numba, roofline
from bench.harness import Case, Peer
from memkern.ops.class_sums import class_sums
from memkern.reference import class_sums as reference

# [points, units], classes
SHAPES = [
    "5000x2048 100*",
    "50000x512 10",
    "50000x512 1000",
    "50000x2048 100",
    "777x333 7",
    "5000x512 100",
    "300000x64 1000",
    "100000x128 10",
]
CLASSMEM_SHAPES = ["6000x1500 80*", "900x300 9", "300000x64 1000", "5000x512 100", "64x32 4"]


def numpy_add_at(array: Any, labels: Any, classes: int) -> Any:
    import numpy as np

    out = np.zeros((classes, array.shape[1]))
    np.add.at(out, labels, array)
    return out


@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_sums(race: Any, shape: str) -> None:
    sizes, classes = shape.split(" ")[0], int(shape.split(" ")[1])
    points, units = map(int, sizes.split("x"))
    means = data.activations(points, units)
    labels = torch.randint(classes, (points,), generator=torch.Generator().manual_seed(0))
    error = data.error_plain(reference(means, labels, classes=classes))
    array, label_array = means.numpy(), labels.numpy()

    def index_add(dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(classes, units, dtype=dtype).index_add_(0, labels, means.to(dtype))

    def one_hot() -> torch.Tensor:
        return torch.nn.functional.one_hot(labels, classes).float().T @ means

    compiled = peers.compiled(
        lambda a: torch.zeros(classes, units, dtype=torch.float64).index_add(0, labels, a.double())
    )
    case = Case(
        "class_sums", (points, units), torch.float32, 4 * means.numel(), error, error(index_add(torch.float32))[0],
        variant=f"{classes} classes",
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(means)],
            Peer("memkern", lambda: class_sums(means, labels, classes=classes, backend="cpu"), "ours"),
            Peer("torch index_add", lambda: index_add(torch.float32)),
            Peer("torch index_add in float64", lambda: index_add(torch.float64)),
            Peer("torch one-hot product", one_hot),
            Peer("torch.compile index_add in float64", lambda: compiled(means)),
            Peer("numpy add.at", lambda: numpy_add_at(array, label_array, classes)),
            Peer("numba", lambda: peers_numba.sums_by_class(array, label_array, classes)),
            peers_jax.class_sums(means, labels, classes),
        ],
    )  # fmt: skip
    race(case)


def eager_classmem(means: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Computes ClassMem as users write it: sums of each class, its mean, the largest one against the others."""
    sums = torch.zeros(classes, means.shape[1]).index_add_(0, labels, means)
    of_classes = sums / torch.bincount(labels, minlength=classes)[:, None]
    peak = of_classes.max(0).values
    rest = (of_classes.sum(0) - peak) / (classes - 1)
    return (peak - rest) / (peak + rest)


@pytest.mark.parametrize("shape", data.shapes(CLASSMEM_SHAPES))
def bench_classmem(race: Any, shape: str) -> None:
    sizes, classes = shape.split(" ")[0], int(shape.split(" ")[1])
    points, units = map(int, sizes.split("x"))
    means = data.activations(points, units)
    labels = torch.randint(classes, (points,), generator=torch.Generator().manual_seed(0))
    wide = reference(means, labels, classes=classes) / labels.bincount(minlength=classes)[:, None]
    peak = wide.amax(0)
    rest = (wide.sum(0) - peak) / (classes - 1)
    error = data.error_plain((peak - rest) / (peak + rest))
    compiled = peers.compiled(eager_classmem)
    case = Case(
        "classmem", (points, units), torch.float32, 4 * means.numel(), error,
        error(eager_classmem(means, labels, classes))[0], variant=f"{classes} classes",
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(means)],
            Peer("memkern", lambda: memkern.classmem(means, labels, backend="cpu"), "ours"),
            Peer("torch", lambda: eager_classmem(means, labels, classes)),
            Peer("torch.compile", lambda: compiled(means, labels, classes)),
        ],
    )  # fmt: skip
    race(case)
