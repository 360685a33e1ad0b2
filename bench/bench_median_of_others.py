"""Median of the other points, per unit: the centre that the released scripts use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench import data, peers, peers_numba, roofline
from bench.harness import Case, Peer
from memkern.ops.median_of_others import median_of_others
from memkern.reference import median_of_others as reference

# An odd number of points has two middle values among the others, an even one one.
SHAPES = ["512x256*", "300x1120", "777x333", "5000x2048*", "5001x2048", "20000x1000", "50000x512"]


@pytest.mark.parametrize("shape", data.shapes(SHAPES))
def bench_median(race: Any, shape: str) -> None:
    points, units = map(int, shape.split("x"))
    means = data.activations(points, units)
    error = data.error_plain(reference(means))
    array = means.numpy()
    case = Case(
        "median_of_others", (points, units), torch.float32, 4 * means.numel(), error, error(peers.torch_sort(means))[0],
        variant="large" if points >= 5000 and units >= 512 else "",
        peers=[
            *[Peer(name, call, "yardstick") for name, call in roofline.readers(means)],
            Peer("memkern", lambda: median_of_others(means, backend="cpu"), "ours"),
            Peer("numpy sort (released scripts)", lambda: peers.sorted_scripts(array)),
            Peer("numpy partition", lambda: peers.numpy_partition(array)),
            Peer("numpy partition of the transpose", lambda: peers.numpy_partition_transposed(array)),
            Peer("torch sort", lambda: peers.torch_sort(means)),
            Peer("torch median", lambda: peers.torch_median(means)),
            Peer("torch median of the transpose", lambda: peers.torch_median_transposed(means)),
            Peer("torch kthvalue", lambda: peers.torch_kthvalue(means)),
            Peer("numba", lambda: peers_numba.median_of_others(array)),
        ],
    )  # fmt: skip
    race(case, scale=2.0 if points >= 5000 else 1.0)
