"""Tiny inputs that reach every CUDA kernel and every branch of its launcher, compared with the float64 reference.

Run under sanitizers, where each case must be small, and against planted faults:  python -m gpu.tiny [--only TEXT]
[--skip TEXT] [--schedules N] [--first]. Prints one line per failure; exits with 1 if there is any, or if no case ran.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from gpu import emulated, tiny_views
from torch import Tensor

from memkern import native, reference
from python_tests.helpers import testing

Case = tuple[str, Callable[[], None]]


def check_alignment(z: Tensor, anchor: bool, normalize: bool) -> None:
    pairs, wide = "anchor" if anchor else "all", native.accumulate_dtype(z.dtype)
    sums = None if anchor else emulated.unwritten_sums(z)
    out, saved = emulated.alignment(z, anchor, normalize, True, sums)
    if sums is not None:
        check_view_sums(z, normalize, sums)
    testing.assert_within(out, testing.expected_alignment(z, pairs=pairs, normalize=normalize), wide, "alignment")
    distances = reference.alignment.__globals__["pair_distances"](z, pairs=pairs, normalize=normalize)
    torch.testing.assert_close(saved[:, : distances.shape[1]].double(), distances, rtol=1e-4, atol=1e-6, equal_nan=True)
    if normalize:
        norms = z.double().flatten(2).norm(dim=2)
        torch.testing.assert_close(saved[:, distances.shape[1] :].double(), norms, rtol=1e-6, atol=0, equal_nan=True)
    if not emulated.has("alignment_backward"):  # mutants and planted faults build what they change
        return
    upstream = testing.randn(z.shape[0], dtype=wide)
    gradient = emulated.alignment_backward(upstream, z, saved, anchor, normalize)
    if bool(z.isfinite().all()) and bool((distances > 1e-3).all()):
        want = testing.expected_gradient(z, upstream, pairs=pairs, normalize=normalize)
        testing.assert_within(gradient, want, z.dtype, "gradient")


def check_other_distances(z: Tensor, anchor: bool) -> None:
    wide = native.accumulate_dtype(z.dtype)
    for distance, normalize in (("cosine", True), ("angular", True), ("l1", True), ("l1", False)):
        sums = None if anchor else emulated.unwritten_sums(z)
        out, _ = emulated.alignment(z, anchor, normalize, False, sums, distance)
        options = {"normalize": normalize, "distance": distance}
        want = testing.expected_alignment(z, pairs="anchor" if anchor else "all", **options)
        testing.assert_within(out, want, wide, distance)
        if sums is not None:
            for got, by_view in zip(sums, testing.expected_view_sums(z, **options), strict=True):
                testing.assert_within(got, by_view, wide, distance)


def check_view_sums(z: Tensor, normalize: bool, sums: native.ViewSums) -> None:
    for name, got, want in zip(sums._fields, sums, testing.expected_view_sums(z, normalize=normalize), strict=True):
        testing.assert_within(got, want, native.accumulate_dtype(z.dtype), name)


def check_alignment_alone(z: Tensor) -> None:
    """Without what a backward needs."""
    testing.assert_same_bits(emulated.alignment(z, False, True, False)[0], emulated.alignment(z, False, True, True)[0])


def check_many_looks(z: Tensor) -> None:
    """On memory that holds likely numbers: a part that nobody looked at would be NaN, and such pairs are recomputed."""
    with mock.patch.object(emulated, "scratch_memory", lambda size: torch.full((size,), 0x40, dtype=torch.uint8)):
        check_alignment(z, False, True)


def check_means(x: Tensor, unit_dim: int, activation: str) -> None:
    want = testing.expected_unit_means(x, unit_dim=unit_dim, activation=activation)
    got = emulated.unit_means(x, unit_dim, activation)
    testing.assert_within(got, want, native.accumulate_dtype(x.dtype), "unit_means")


def check_selectivity(x: Tensor, unit_dim: int, order: Tensor | None) -> None:
    got = emulated.selectivity(x, unit_dim, "raw", order)
    want = reference.selectivity(x if order is None else x[order], unit_dim=unit_dim)
    for value, expected, name in zip(got, want, ("peak", "index", "rest", "low"), strict=True):
        torch.testing.assert_close(
            value.double(),
            expected.double(),
            rtol=2e-6,
            atol=2e-6,
            equal_nan=True,
            msg=lambda text, name=name: name + text,
        )


def check_layer_stats(x: Tensor, unit_dim: int) -> None:
    sums = emulated.unwritten_sums(x)
    alignment, means, saved = emulated.layer_stats(x, unit_dim, False, True, True, sums)
    check_view_sums(x, True, sums)
    testing.assert_within(alignment, testing.expected_alignment(x), native.accumulate_dtype(x.dtype), "alignment")
    testing.assert_within(
        means, testing.expected_unit_means(x, unit_dim=unit_dim), native.accumulate_dtype(x.dtype), "unit means"
    )
    apart = emulated.alignment(x, False, True, True)[1]  # its sums are cut elsewhere
    torch.testing.assert_close(saved, apart, rtol=1e-12 if x.dtype == torch.float64 else 1e-6, atol=0)


def check_many_layers(layers: list[tuple[Tensor, int]]) -> None:
    for got, (x, unit_dim) in zip(emulated.layer_stats_many(layers, False, True, True), layers, strict=True):
        for part, alone in zip(got, emulated.layer_stats(x, unit_dim, False, True, True), strict=True):
            testing.assert_same_bits(part, alone, "many layers")


def check_median(means: Tensor) -> None:
    testing.assert_same_bits(emulated.median_of_others(means), reference.median_of_others(means).to(means.dtype))


def check_class_sums(means: Tensor, labels: Tensor, classes: int) -> None:
    got = emulated.class_sums(means, labels, classes, start=2.0)  # a second batch is added to the first
    want = 2 + reference.class_sums(means, labels, classes=classes)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def hazards(dtype: torch.dtype) -> Tensor:
    """[7, 3, 9]: zero views, equal views, NaN, infinity, overflow, underflow, parallel views of different norms."""
    z = testing.randn(7, 3, 9, dtype=dtype)
    largest = {torch.float16: 3e4, torch.float64: 1e15}.get(dtype, 1e20)
    z[0, 1] = 0
    z[1, 1] = z[1, 0]
    z[2, 2, 4] = torch.nan
    z[3, 0, 0] = torch.inf
    z[4] *= largest
    z[5] /= largest
    z[6, 1:] = z[6, :1] * torch.tensor([[2.0], [3.0]], dtype=dtype)
    return z


def far_apart(*shape: int) -> Tensor:
    """Points 2^30 elements apart, so that offsets pass 2^31; the memory between is never touched."""
    inner = torch.empty(shape[1:]).stride()
    memory = torch.empty((shape[0] - 1) * 2**30 + shape[1] * inner[0], dtype=torch.float16)
    return memory.as_strided(shape, (2**30, *inner)).copy_(testing.randn(*shape))


def far_cases() -> Iterator[Case]:
    """Points, views and units so far apart that offsets need 64 bits."""
    for name, shape in (("few views", (4, 3, 24)), ("tiles", (4, 11, 24)), ("elements", (4, 3, 5))):
        yield f"far apart alignment {name}", lambda shape=shape: check_alignment(far_apart(*shape), False, True)
    for anchor in (False, True):
        yield (
            f"far apart alignment views {anchor}",
            lambda a=anchor: check_alignment(far_apart(4, 3, 24).transpose(0, 1), a, True),
        )
    # parallel: what the sums cannot give is computed from the elements
    z = far_apart(4, 3, 24)
    z[3, 1] = 2 * z[3, 0]
    yield "far apart alignment parallel", lambda: check_alignment(z, False, True)
    x = far_apart(4, 3, 24)
    x[3, 1] = 2 * x[0, 1]
    yield "far apart alignment parallel views", lambda: check_alignment(x.transpose(0, 1), False, True)
    for shape, unit_dim in (((4, 2, 3, 5), 2), ((4, 2, 2, 300), 2), ((4, 9), 1)):
        yield f"far apart means {shape}", lambda shape=shape, u=unit_dim: check_means(far_apart(*shape), u, "raw")
        yield (
            f"far apart selectivity {shape}",
            lambda shape=shape, u=unit_dim: check_selectivity(far_apart(*shape), u, None),
        )
    # units far apart: maps, nothing contiguous, a matrix
    yield "far apart means units", lambda: check_means(far_apart(4, 2, 300).transpose(0, 1), 1, "raw")
    yield "far apart means units apart", lambda: check_means(far_apart(4, 2, 10).transpose(0, 1)[..., ::2], 1, "raw")
    yield "far apart means points apart", lambda: check_means(far_apart(4, 2, 10)[..., ::2], 1, "raw")
    yield "far apart selectivity units", lambda: check_selectivity(far_apart(4, 35).t(), 1, None)
    for shape, unit_dim in (((4, 2, 8, 2, 2), 2), ((4, 2, 5, 8), 3)):
        yield f"far apart layer_stats {shape}", lambda shape=shape, u=unit_dim: check_layer_stats(far_apart(*shape), u)


def cases() -> Iterator[Case]:
    """Every case by name."""
    for dtype in testing.DTYPES:
        name = str(dtype).removeprefix("torch.")
        # (views, dims, anchor): registers (whole packs only), tiles, several groups of tiles, ragged ends
        for views, dims, anchor in ((2, 24, False), (5, 24, False), (3, 21, False), (10, 16, False),
                                    (17, 9, False), (18, 32, False), (6, 40, True)):  # fmt: skip
            for normalize in (True, False):
                z = testing.relu_features(2, views, dims, dtype=dtype)
                yield (
                    f"alignment {name} {views} {dims} {anchor} {normalize}",
                    lambda z=z, a=anchor, n=normalize: check_alignment(z, a, n),
                )
        for layout in ("misaligned", "padded", "views outermost"):
            z = testing.LAYOUTS[layout](testing.randn(3, 4, 21, dtype=dtype))
            yield f"alignment {name} {layout}", lambda z=z: check_alignment(z, False, True)
        z = testing.misaligned(testing.randn(3, 4, 24, dtype=dtype))  # only the address is in the way of packs
        yield f"alignment {name} misaligned packs", lambda z=z: check_alignment(z, False, True)
        z = testing.randn(0, 3, 4, dtype=dtype)
        yield f"alignment {name} of no points", lambda z=z: check_alignment(z, False, True)
        for views, dims, anchor in ((5, 24, False), (18, 32, False), (6, 40, True)):
            z = testing.relu_features(6, views, dims, dtype=dtype)
            yield (
                f"alignment {name} distances {views} {anchor}",
                lambda z=z, a=anchor: check_other_distances(z, a),
            )
        z = testing.randn(2, 3, 9, dtype=dtype)
        yield f"alignment {name} alone", lambda z=z: check_alignment_alone(z)
        z = testing.randn(2, 12, 24, dtype=dtype)[..., :22]
        yield f"alignment {name} ragged packs", lambda z=z: check_alignment(z, False, True)
        for views, dims, anchor in ((4, 4128, False), (6, 4101, True)):  # more dims than kLookDims
            z = testing.near_parallel(2, views, dims, eps=0.2, spread=3.0, dtype=dtype)
            z[0] = testing.relu_features(1, views, dims, dtype=dtype)[0]  # which needs no second look
            yield (
                f"alignment {name} second look {views} {dims} {anchor}",
                lambda z=z, a=anchor: check_alignment(z, a, True),
            )
        for normalize in (True, False):
            yield f"hazards {name} {normalize}", lambda d=dtype, n=normalize: check_alignment(hazards(d), False, n)
        shapes: tuple[tuple[tuple[int, ...], int], ...] = (
            ((3, 5, 7), 1), ((2, 3, 5, 3, 3), 2), ((2, 2, 9, 7, 7), 2), ((2, 70, 40), 2), ((1, 300, 6), 2),
            ((2, 2, 2, 19, 17), 2), ((1, 9, 2, 1100), 2), ((3, 4), 1),
        )  # fmt: skip
        for shape, unit_dim in shapes:
            for layout in ("contiguous", "misaligned", "points innermost"):
                x = testing.LAYOUTS[layout](testing.randn(*shape, dtype=dtype))
                yield f"means {name} {shape} {layout}", lambda x=x, u=unit_dim: check_means(x, u, "relu")
        x = testing.randn(2, 4, 6, 8, 5, dtype=dtype)[:, ::2, ::2, ::2]  # averaged dims that cannot be merged
        yield f"means {name} sliced, units innermost", lambda x=x: check_means(x, 4, "raw")
        yield f"means {name} sliced, units outermost", lambda x=x: check_means(x.movedim(4, 1), 1, "raw")
        for points in (1, 31, 70):
            x = testing.randn(points, 11, dtype=dtype)
            x[0] = x.amax(0)
            x[points // 2] = x[0]
            yield f"selectivity {name} {points}", lambda x=x: check_selectivity(x, 1, None)
        x = testing.randn(70, 11, dtype=dtype)
        x[0, 3], x[40, 4], x[69, 5] = torch.nan, torch.nan, torch.nan  # in the first chunk, in the middle, in the last
        yield f"selectivity {name} NaN", lambda x=x: check_selectivity(x, 1, None)
        x = testing.misaligned(testing.randn(40, 5, dtype=dtype))
        yield f"selectivity {name} order", lambda x=x: check_selectivity(x, 1, torch.arange(40).flip(0))
        x = testing.randn(33, 2, 5, 3, dtype=dtype)
        x[7, 0, 1, 0] = torch.nan
        yield f"selectivity {name} maps", lambda x=x: check_selectivity(x, 2, None)
        # in one read: maps, maps in chunks, tokens, tokens in chunks, a linear layer; then what needs two
        shapes = (
            ((2, 3, 8, 4, 4), 2), ((1, 2, 18, 32, 32), 2), ((2, 3, 5, 24), 3), ((1, 2, 400, 24), 3),
            ((2, 10, 40), 2), ((2, 11, 5, 9), 2), ((1, 4, 3, 7, 3), 2), ((2, 2, 3, 8, 4), 3),
        )  # fmt: skip
        for shape, unit_dim in shapes:
            x = testing.randn(*shape, dtype=dtype)
            yield f"layer_stats {name} {shape}", lambda x=x, u=unit_dim: check_layer_stats(x, u)
    layers = [
        (testing.randn(*shape), unit_dim)
        for shape, unit_dim in (((2, 3, 8, 4, 4), 2), ((1, 4, 200, 24), 3), ((2, 3, 40), 2))
    ]
    yield "layer_stats float32 many", lambda: check_many_layers(layers)
    z = testing.near_parallel(60, 2, 4101, eps=0.2, spread=3.0)  # nine chunks each: more parts than kLookBlocks
    yield "alignment float32 many looks", lambda: check_many_looks(z)
    yield from far_cases()
    for wide in (torch.float32, torch.float64):
        for points in (2, 3, 20, 41):
            means = testing.randn(points, 35, dtype=wide)
            means[0, :3], means[points // 2, 3] = torch.tensor([torch.inf, -torch.inf, torch.nan]), means[0, 3]
            yield f"median {wide} {points}", lambda m=means: check_median(m)
            yield f"median {wide} {points} ties", lambda m=means: check_median((m * 2).round() + 0.0)
        means = testing.randn(4099, 2, dtype=wide)
        yield f"median {wide} chunks", lambda m=means: check_median(m)
        for points, units, classes in ((5, 3, 4), (70, 260, 2), (2100, 2, 1)):
            labels = torch.arange(points) * 7 % 5 % classes
            means = testing.randn(points, units, dtype=wide)
            yield f"classes {wide} {points}", lambda m=means, y=labels, c=classes: check_class_sums(m, y, c)
    yield from tiny_views.cases()


def main() -> int:
    """Runs the cases; see above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--skip", default="\0", help="no cases whose name matches this expression")
    parser.add_argument("--part", default="0/1", help="K/N: each N-th case from case K on")
    parser.add_argument("--schedules", type=int, default=1, help="how many orders of threads and blocks")
    parser.add_argument("--times", action="store_true", help="print how long each case takes a processor")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, options.part.split("/"))
    ran = failed = 0
    for seed in range(options.schedules):
        emulated.configure(order=emulated.ORDERS[(seed + 2) % len(emulated.ORDERS)], seed=seed + 1)
        for number, (name, run) in enumerate(cases()):
            if number % parts != part:
                continue
            if options.only not in name or re.search(options.skip, name):
                continue
            ran += 1
            started = time.process_time()
            try:
                run()
            except (AssertionError, emulated.LaunchError) as error:
                failed += 1
                print(f"FAILED {name}: {str(error).splitlines()[0]}", flush=True)
                if options.first:
                    return 1
            if options.times:
                print(f"{time.process_time() - started:6.2f} s {name}", flush=True)
    print(f"{ran} cases, {failed} failed", flush=True)
    return int(failed > 0 or ran == 0)


if __name__ == "__main__":
    sys.exit(main())
