"""Time and peak memory of `memkern.families` for any number of images, encoders and layers.

    python -m bench.bench_families [--images N] [--encoders K] [--layers L] [--threads T] [--designs halves split]

`image_scores` and `layer_scores` of a stack of layers, in a process of its own for each design: random halves of the
encoders, and a fixed split of as many f as g (6 % candidates, 2 % independents, 10 % extra, the others shared). On
a machine that does other things too, compare processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from memkern import families

Layer = NDArray[np.float32]


class Layers(Sequence[Layer]):
    """So many layers `[N, K]`, of which only a few differ: memory is that of a map of a file, read layer by layer."""

    def __init__(self, kept: list[Layer], count: int) -> None:
        self._kept, self._count = kept, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Layer: ...
    @overload
    def __getitem__(self, number: slice) -> list[Layer]: ...
    def __getitem__(self, number: int | slice) -> Layer | list[Layer]:
        if isinstance(number, slice):
            return [self[each] for each in range(self._count)[number]]
        return self._kept[range(self._count)[number] % len(self._kept)]


def membership(design: str, images: int, encoders: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Who saw which image, `[N, K]`."""
    if design == "halves":
        return (np.argsort(rng.random((images, encoders)), 1) < encoders // 2).astype(np.int8)
    shares = {"candidate": 0.06, "independent": 0.02, "extra": 0.1, "shared": 0.82}
    groups = rng.choice(list(shares), images, p=list(shares.values()))
    return families.membership_of_groups(groups.tolist(), n_f=encoders // 2, n_g=encoders - encoders // 2)


def measure(design: str, images: int, encoders: int, layers: int) -> dict[str, float]:
    """Seconds and processor seconds of both functions, and the peak of this process in GiB."""
    rng = np.random.default_rng(0)
    seen = membership(design, images, encoders, rng)
    base = rng.normal(0.35, 0.08, (images, 1)).clip(0.15)
    kept = []
    for _ in range(min(layers, 3)):
        noise = 0.03 * rng.normal(size=seen.shape)
        kept.append((base - 0.02 * (seen == 1) + noise).astype(np.float32))
    stack, before, processor = Layers(kept, layers), time.perf_counter(), time.process_time()
    found = families.design(seen)
    families.image_scores(stack, found)
    families.layer_scores(stack, found)
    seconds, processor = time.perf_counter() - before, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "processor": processor, "peak": peak}


def in_process(design: str, images: int, encoders: int, layers: int, threads: int) -> dict[str, float]:
    """`measure` in a process of its own, on so many threads."""
    call = f"measure({design!r}, {images}, {encoders}, {layers})"
    program = f"import json; from bench.bench_families import measure; print(json.dumps({call}))"
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **limits}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a line a design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--encoders", type=int, default=64)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--designs", nargs="+", default=["halves", "split"], choices=["halves", "split"])
    options = parser.parse_args()
    sizes = options.images, options.encoders
    print("| design | images | encoders | layers | threads | seconds | processor seconds | peak, GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for design in options.designs:
        found = in_process(design, *sizes, options.layers, options.threads)
        numbers = f"{found['seconds']:.1f} | {found['processor']:.1f} | {found['peak']:.2f}"
        print(f"| {design} | {sizes[0]} | {sizes[1]} | {options.layers} | {options.threads} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
