"""Unit means over every layout and dtype that encoders produce."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import memkern
from bench import data, peers, peers_jax, peers_numba, roofline
from bench.harness import Case, Peer
from memkern.reference import unit_means as reference

# Layout and shape [N, V, U, H, W], tokens [N, V, T, U]; "*": in the quick subset.
SHAPES = [
    "NCHW 8x10x64x8x8", "NCHW 512x10x256x4x4", "NCHW 64x10x256x8x8*", "NCHW 64x4x512x14x14", "NCHW 64x10x64x56x56*",
    "NCHW 1000x10x256x2x2", "NCHW 33x3x65x7x7", "channels-last 512x10x256x4x4", "channels-last 64x10x256x8x8",
    "channels-last 64x10x64x56x56*", "channels-last 33x3x65x7x7", "tokens 64x4x197x768", "tokens 160x4x197x768",
    "views 5000x10x512",
]  # fmt: skip


def numba_means(layout: str, x: torch.Tensor) -> Any:
    """The numba loop for this layout, on a view of the memory."""
    if layout == "NCHW":
        maps = x.flatten(3).numpy()
        return lambda: peers_numba.maps_means(maps)
    rows = (x.movedim(2, -1) if layout == "channels-last" else x).flatten(1, -2).numpy()
    return lambda: peers_numba.rows_means(rows)


def _case(text: str, dtype: torch.dtype) -> Case:
    layout, x, unit_dim = data.in_layout(text, dtype)
    truth = data.in_chunks(lambda part: reference(part, unit_dim=unit_dim), x)
    error = data.error_plain(truth)
    dims = tuple(peers.averaged(x, unit_dim))
    half = dtype != torch.float32
    compiled = peers.compiled(lambda a: peers.means_float32(a, unit_dim))
    case = Case(
        "unit_means", tuple(map(int, text.split(" ")[1].split("x"))), dtype, x.numel() * x.element_size(), error,
        error(x.float().mean(dims))[0], layout=layout,
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(x)],
            Peer("memkern", lambda: memkern.unit_means(x, view_dim=1, unit_dim=unit_dim, backend="cpu"), "ours"),
            Peer("torch mean", lambda: peers.means(x, unit_dim), inexact=half),
            Peer("torch.compile mean", lambda: compiled(x)),
        ],
    )  # fmt: skip
    if half:
        case.peers.append(Peer("torch mean in float32", lambda: peers.means_float32(x, unit_dim)))
        case.peers.append(Peer("torch .float().mean", lambda: x.float().mean(dims)))
    else:
        case.peers.append(Peer("numba", numba_means(layout, x)))
        case.peers.append(peers_jax.unit_means(x, peers.averaged(x, unit_dim)))
    if dtype != torch.bfloat16:
        array = x.numpy()
        case.peers.append(Peer("numpy mean", lambda: np.mean(array, dims, dtype=np.float32), inexact=True))
    return case


@pytest.mark.parametrize("dtype", data.DTYPES)
@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_means(race: Any, quick: bool, shape: str, dtype: str) -> None:
    if quick and dtype == "float16":
        pytest.skip("float16: not in the quick subset")
    race(_case(shape, data.DTYPES[dtype]), scale=0.7)
