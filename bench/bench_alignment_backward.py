"""Alignment, forward and backward: the gradient newly allocated in fresh pages, and in warm ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import memkern
from bench import allocator, data, peers, peers_jax, peers_numba, roofline
from bench.harness import Case, Peer
from memkern.reference import alignment_backward as reference

SHAPES = ["1024x2x4096", "1024x4x2048", "1024x8x2048", "512x10x512", "512x10x2048*", "64x10x65536", "512x16x2048"]
PAIRS_COMPILED = 45

pytestmark = [
    pytest.mark.last,
    pytest.mark.skipif(not allocator.available(), reason="warm and fresh pages are told apart with glibc's mallopt"),
]


def _case(text: str, dtype: torch.dtype, variant: str, quick: bool, normalize: bool = False) -> Case:
    points, views, dims = map(int, text.split("x"))
    z = data.views(points, views, dims, dtype)
    ones = torch.ones(points)
    truth = torch.cat([reference(ones[: len(part)], part, normalize=normalize) for part in z.split(64)])
    error = data.error_of_gradient(truth)
    pairs = views * (views - 1) // 2
    half = dtype != torch.float32

    def formula(f: peers.Formula) -> peers.Formula:
        f = peers.unit(f) if normalize else f
        return peers.in_float32(f) if half else f

    def eager(name: str, f: peers.Formula, **options: Any) -> Peer:
        return Peer(name, peers.with_gradient(formula(f), z), **options)

    def compiled(name: str, f: peers.Formula, **options: Any) -> Peer:
        return Peer(name, peers.with_gradient(peers.compiled(formula(f)), z), **options)

    def ours(leaf: torch.Tensor) -> torch.Tensor:
        return memkern.alignment(leaf, normalize=normalize, backend="cpu")

    loop = eager("torch pair loop", peers.pair_loop)
    many = f"{pairs} pairs compile for minutes" if pairs > (10 if quick else PAIRS_COMPILED) else ""
    case = Case(
        "alignment forward+backward", (points, views, dims), dtype, z.numel() * z.element_size(), error,
        error(loop.call())[0], variant=f"{'unit ' if normalize else ''}{variant}",
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(z)],
            Peer("z.clone()", z.clone, "yardstick"),
            Peer("memkern", peers.with_gradient(ours, z), "ours"),
            loop,
            eager("torch row loop", peers.row_loop),
            eager("torch.cdist, direct", peers.cdist_direct),
            eager("torch gram (bmm)", peers.gram, inexact=True),
            compiled("torch.compile pair loop", peers.pair_loop, skip=many),
            compiled("torch.compile gram", peers.gram, inexact=True),
        ],
        note="GB/s and share of read count one read of the input.",
    )  # fmt: skip
    if not half:
        case.peers.append(peers_jax.gradient(z, normalize))
    if not normalize and not half:
        array = z.numpy()

        def by_hand() -> torch.Tensor:
            gradient = torch.empty_like(z)
            peers_numba.alignment_gradient(array, gradient.numpy())
            return gradient

        case.peers.append(Peer("numba, gradient by hand", by_hand))
    return case


@pytest.mark.parametrize("pages", ["fresh pages", "warm pages"])
@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_gradient(race: Any, quick: bool, shape: str, pages: str) -> None:
    (allocator.warm_pages if pages == "warm pages" else allocator.fresh_pages)()
    race(_case(shape, torch.float32, pages, quick))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def bench_gradient_unit(race: Any, quick: bool, dtype: torch.dtype) -> None:
    allocator.warm_pages()
    race(_case("512x10x2048", dtype, "warm pages", quick, normalize=True))
