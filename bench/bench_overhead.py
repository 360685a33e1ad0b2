"""What a call costs when there is hardly anything to compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import memkern
from bench import data
from bench.harness import Case, Peer
from memkern.reference import alignment, unit_means

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "unit"])
def bench_alignment_call(race: Any, normalize: bool) -> None:
    z = data.views(8, 2, 128)
    error = data.error_of_points(alignment(z, normalize=normalize))

    def eager() -> torch.Tensor:
        a = torch.nn.functional.normalize(z, dim=2) if normalize else z
        return (a[:, 0] - a[:, 1]).norm(dim=1)

    case = Case(
        "call overhead", (8, 2, 128), torch.float32, 4 * z.numel(), error, error(eager())[0],
        variant="alignment, unit" if normalize else "alignment",
        peers=[
            Peer("x.sum()", z.sum, "yardstick"),
            Peer("memkern", lambda: memkern.alignment(z, normalize=normalize), "ours"),
            Peer("torch eager two-view formula", eager),
        ],
    )  # fmt: skip
    race(case)


def bench_unit_means_call(race: Any) -> None:
    x = data.activations(8, 16, 2, 2)
    error = data.error_plain(unit_means(x))
    case = Case(
        "call overhead", (8, 16, 2, 2), torch.float32, 4 * x.numel(), error, error(x.mean((2, 3)))[0],
        variant="unit_means",
        peers=[
            Peer("x.sum()", x.sum, "yardstick"),
            Peer("memkern", lambda: memkern.unit_means(x), "ours"),
            Peer("torch mean", lambda: x.mean((2, 3))),
        ],
    )  # fmt: skip
    race(case)
