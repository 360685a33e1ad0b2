"""Selectivity state (peak, which point, sum of the others) straight from activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import memkern
from bench import data, peers, peers_numba, roofline
from bench.bench_unit_means import numba_means
from bench.harness import Case, Peer
from memkern.ops.selectivity import selectivity
from memkern.reference import unit_means as reference_means

# Layout and shape as for unit_means; "matrix" [N, U]: means that were computed before.
SHAPES = [
    "matrix 512x256", "matrix 5000x2048*", "matrix 25000x4096*", "matrix 60000x2048", "matrix 1237x333",
    "NCHW 512x10x256x4x4", "NCHW 64x10x64x56x56*", "channels-last 64x10x64x56x56", "tokens 160x4x197x768",
]  # fmt: skip


def _error(means: Tensor) -> Callable[[Any], tuple[float, float]]:
    """Worst relative error of peak and sum of the others, and of the mean that the reported index points to."""
    peak = means.amax(0)
    rest = means.sum(0) - peak

    def error(result: Any) -> tuple[float, float]:
        found_peak, index, found_rest = (torch.as_tensor(part) for part in result[:3])
        at_index = means.gather(0, index[None].long())[0]
        value = max(data.worst(found_peak, peak), data.worst(found_rest, rest), data.worst(at_index, peak))
        return value, value

    return error


def _case(text: str, dtype: torch.dtype) -> Case:
    layout, x, unit_dim = data.in_layout(text, dtype)
    means = data.in_chunks(lambda part: reference_means(part, unit_dim=unit_dim), x)
    error = _error(means)
    half, matrix = dtype != torch.float32, layout == "matrix"
    compiled = peers.compiled(lambda a: peers.selectivity_of(peers.means_float32(a, unit_dim)))
    view_dim = None if matrix else 1
    case = Case(
        "selectivity", tuple(map(int, text.split(" ")[1].split("x"))), dtype, x.numel() * x.element_size(), error,
        error(peers.selectivity_of(peers.means_float32(x, unit_dim)))[0], layout=layout,
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(x)],
            Peer("memkern", lambda: selectivity(x, unit_dim=unit_dim, backend="cpu"), "ours"),
            Peer(
                "memkern.unitmem (checks, score)",
                lambda: memkern.unitmem(x, view_dim=view_dim, unit_dim=unit_dim, backend="cpu"),
                "yardstick",
            ),
            Peer("torch mean, max, sum", lambda: peers.selectivity_of(peers.means(x, unit_dim)), inexact=half),
            Peer("torch.compile mean, max, sum", lambda: compiled(x)),
        ],
    )  # fmt: skip
    if half:
        fast = lambda: peers.selectivity_of(peers.means_float32(x, unit_dim))  # noqa: E731
        case.peers.append(Peer("torch mean in float32, max, sum", fast))
        return case
    array = x.numpy()
    first = (lambda: array) if matrix else numba_means(layout, x)
    dims = tuple(peers.averaged(x, unit_dim))
    case.peers.append(Peer("numba", lambda: peers_numba.selectivity(first())))
    averaged = (lambda: array) if matrix else (lambda: array.mean(dims))
    case.peers.append(Peer("numpy", lambda: peers.numpy_selectivity(averaged()), inexact=True))
    return case


@pytest.mark.parametrize("dtype", data.DTYPES)
@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_state(race: Any, quick: bool, shape: str, dtype: str) -> None:
    if quick and dtype == "float16":
        pytest.skip("float16: not in the quick subset")
    race(_case(shape, data.DTYPES[dtype]), scale=0.7)
