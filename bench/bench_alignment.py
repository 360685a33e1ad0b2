"""Alignment, forward: direct differences and matrix products, in every spelling we could find."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import memkern
from bench import data, peers, peers_jax, peers_numba, roofline
from bench.harness import Case, Peer
from memkern.reference import alignment as reference

# [points, views, dims]; "*" marks the quick subset.
SHAPES = [
    # in one core's L2
    "8x2x2048*", "16x10x512", "4x10x2048", "2x32x1024",
    # in the shared L3
    "2000x2x256*", "1024x2x4096", "1024x3x2048", "1024x4x2048", "1024x5x2048*", "1024x8x2048", "512x10x512",
    "512x10x2048*", "5000x10x256", "512x16x2048", "256x32x2048", "64x10x65536",
    # from DRAM
    "20000x2x2048", "10000x4x2048", "8000x5x2048", "5000x8x2048", "4000x10x2048*",
    # odd
    "37x7x1234", "333x3x777", "129x11x1001*", "5x10x100003", "1001x6x49",
]  # fmt: skip
UNIT_SHAPES = ["2000x2x256", "1024x2x4096", "1024x4x2048", "1024x5x2048", "512x10x512", "512x10x2048*", "512x16x2048",
               "4000x10x2048", "129x11x1001"]  # fmt: skip
# alignment_stats beside alignment: every number of views that has a loop of its own, short rows above all.
STATS_SHAPES = [
    *(f"1024x{v}x{d}" for v in (2, 3, 4, 8, 10) for d in (64, 96, 128, 256, 512, 768, 1024, 2048)),
    *(f"{n}x{v}x{d}" for n in (64, 20000) for v in (2, 3, 4, 8, 10) for d in (64, 256)),
    "2000x2x256*", "5000x10x256", "512x10x2048*", "4000x10x2048",
]  # fmt: skip
OTHER_STATS_SHAPES = [f"1024x{v}x{d}" for v in (2, 3, 4, 8, 10) for d in (64, 256, 1024)]  # unit length, bfloat16
BFLOAT16_SHAPES = ["1024x4x2048", "512x10x2048", "512x16x2048*", "256x32x2048*", "4000x10x2048", "129x11x1001"]
FLOAT16_SHAPES = ["512x10x2048", "512x16x2048"]

COMPILED_PAIRS = 45  # torch.compile of the pair loop: 45 pairs take ten seconds to compile, 496 many minutes
BROADCAST_BYTES = 2 * 10**9


def _case(text: str, dtype: torch.dtype, normalize: bool, quick: bool) -> Case:
    points, views, dims = map(int, text.split("x"))
    z = data.views(points, views, dims, dtype)
    truth = data.in_chunks(lambda part: reference(part, normalize=normalize), z)
    error = data.error_of_points(truth)
    loop = peers.in_float32(peers.unit(peers.pair_loop) if normalize else peers.pair_loop)
    size = z.numel() * z.element_size()
    return Case(
        "alignment", (points, views, dims), dtype, size, error, error(loop(z))[0], variant="unit" if normalize else "",
        peers=[*_yardsticks(z), *_ours(z, normalize), *_peers(z, normalize, quick)],
    )  # fmt: skip


def _stats_case(text: str, dtype: torch.dtype = torch.float32, normalize: bool = False) -> Case:
    """alignment_stats beside alignment: the price of rows, halves and standard errors."""
    points, views, dims = map(int, text.split("x"))
    z = data.views(points, views, dims, dtype)
    error = data.error_of_points(data.in_chunks(functools.partial(reference, normalize=normalize), z))
    loop = peers.in_float32(peers.unit(peers.pair_loop) if normalize else peers.pair_loop)
    return Case(
        "alignment", (points, views, dims), dtype, z.numel() * z.element_size(), error, error(loop(z))[0],
        variant="stats, unit" if normalize else "stats",
        peers=[
            *_yardsticks(z),
            Peer("memkern", lambda: memkern.alignment_stats(z, normalize=normalize, backend="cpu").alignment, "ours"),
            Peer("memkern.alignment", lambda: memkern.alignment(z, normalize=normalize, backend="cpu")),
        ],
    )  # fmt: skip


def _yardsticks(z: torch.Tensor) -> list[Peer]:
    return [Peer(name, call, "yardstick") for name, call in roofline.readers(z)]


def _ours(z: torch.Tensor, normalize: bool) -> list[Peer]:
    """The op; for plain input the unit-length variant too, to compare the two.

    Its time depends on the data, since nearly identical views are computed again with more care, so it is also timed on
    views that are all well apart.
    """
    ours = [Peer("memkern", lambda: memkern.alignment(z, normalize=normalize, backend="cpu"), "ours")]
    for name, x in () if normalize else (("", z), (", views apart", data.views(*z.shape, z.dtype, apart=True))):
        error = data.error_of_points(data.in_chunks(reference, x))
        budget = error(peers.unit(peers.pair_loop)(x.float()))[0]
        call = functools.partial(memkern.alignment, x, backend="cpu")
        ours.append(Peer(f"memkern, unit length{name}", call, "variant", error=error, budget=budget))
    return ours


def _peers(z: torch.Tensor, normalize: bool, quick: bool) -> list[Peer]:
    points, views, dims = z.shape
    half = z.dtype != torch.float32
    pairs, temporary = views * (views - 1) // 2, 4 * points * views * views * dims
    too_big = f"temporary of {temporary / 1e9:.1f} GB" if temporary > BROADCAST_BYTES else ""
    many = f"{pairs} pairs compile for minutes" if pairs > (10 if quick else COMPILED_PAIRS) else ""

    def formula(f: peers.Formula) -> peers.Formula:
        f = peers.unit(f) if normalize else f
        return peers.in_float32(f) if half else f

    def eager(name: str, f: peers.Formula, **options: Any) -> Peer:
        whole = formula(f)
        return Peer(name, lambda: whole(z), **options)

    def compiled(name: str, f: peers.Formula, **options: Any) -> Peer:
        whole = peers.compiled(formula(f))
        return Peer(name, lambda: whole(z), **options)

    found = [
        eager("torch pair loop", peers.pair_loop),
        eager("torch row loop", peers.row_loop),
        eager("torch broadcast", peers.broadcast, skip=too_big),
        eager("torch broadcast of pairs", peers.broadcast_pairs, skip=too_big),
        eager("torch.cdist, direct", peers.cdist_direct),
        eager("torch.cdist, mm", peers.cdist_mm, inexact=True),
        eager("torch gram (bmm)", peers.gram, inexact=True),
        compiled("torch.compile pair loop", peers.pair_loop, skip=many),
        compiled("torch.compile broadcast", peers.broadcast),
        compiled("torch.compile gram", peers.gram, inexact=True),
    ]
    if half:
        direct = peers.unit(peers.pair_loop) if normalize else peers.pair_loop
        found += [
            Peer(f"torch gram in {z.dtype}".replace("torch.", ""), lambda: peers.gram(z), inexact=True),
            Peer(f"torch pair loop in {z.dtype}".replace("torch.", ""), lambda: direct(z), inexact=True),
        ]
        return found
    array = z.numpy()
    found.append(peers_jax.alignment(z, normalize))
    if normalize:
        found.append(Peer("numba", lambda: peers_numba.unit_alignment(array)))
    else:
        found += [
            Peer("numba", lambda: peers_numba.alignment(array)),
            Peer("numpy pair loop", lambda: peers.numpy_loop(array)),
            Peer("NumKong cdist", lambda: peers.numkong_cdist(array), inexact=True),
        ]
    return found


@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_plain(race: Any, quick: bool, shape: str) -> None:
    race(_case(shape, torch.float32, False, quick))


@pytest.mark.parametrize("shape", data.shapes(UNIT_SHAPES))
def bench_unit(race: Any, quick: bool, shape: str) -> None:
    race(_case(shape, torch.float32, True, quick))


@pytest.mark.parametrize("shape", data.shapes(BFLOAT16_SHAPES))
def bench_bfloat16(race: Any, quick: bool, shape: str) -> None:
    race(_case(shape, torch.bfloat16, False, quick))


@pytest.mark.parametrize("shape", data.shapes(FLOAT16_SHAPES))
def bench_float16(race: Any, quick: bool, shape: str) -> None:
    race(_case(shape, torch.float16, False, quick))


@pytest.mark.parametrize("shape", data.shapes(STATS_SHAPES))
def bench_stats(race: Any, shape: str) -> None:
    race(_stats_case(shape))


@pytest.mark.parametrize("shape", data.shapes(OTHER_STATS_SHAPES))
def bench_stats_of_unit_length(race: Any, shape: str) -> None:
    race(_stats_case(shape, normalize=True))


@pytest.mark.parametrize("shape", data.shapes(OTHER_STATS_SHAPES))
def bench_stats_in_bfloat16(race: Any, shape: str) -> None:
    race(_stats_case(shape, torch.bfloat16))
