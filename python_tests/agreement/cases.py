"""Cases of the agreement suite: small descriptions that every process turns into the same inputs, bit by bit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from python_tests.helpers import testing

nan, inf = torch.nan, torch.inf


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        op: A key of ``ops.OPS``.
        shape: Of the main input.
        dtype: Of the main input.
        layout: A key of ``testing.LAYOUTS``.
        hazards: Keys of ``HAZARDS``, applied in order.
        options: Of the call.
        seed: Tells equal descriptions apart.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    hazards: tuple[str, ...]
    options: dict[str, Any]
    seed: int

    def text(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Case:
        """What ``text`` returned."""
        found = json.loads(text)
        return Case(**found | {"shape": tuple(found["shape"]), "hazards": tuple(found["hazards"])})


def values(case: Case) -> Tensor:
    """The main input, contiguous."""
    x = torch.randn(case.shape, generator=testing.rng(case.shape, case.seed), dtype=torch.float64)
    for hazard in case.hazards:
        x = HAZARDS[hazard](x)
    return x.to(getattr(torch, case.dtype))


def in_memory(case: Case, x: Tensor) -> Tensor:
    """The same in the layout of the case."""
    return testing.LAYOUTS[case.layout](x)


# ---- hazards: each takes [points, ...] float64 and returns it spoiled -----------------------------------------------


def _put(x: Tensor, value: float) -> Tensor:
    """One element of the last point, in the middle of it."""
    x = x.clone()
    x[-1].view(-1)[x[-1].numel() // 2] = value
    return x


def _tie(x: Tensor) -> Tensor:
    """The last point is the first one again."""
    x = x.clone()
    x[-1] = x[0]
    return x


def _near(x: Tensor, noise: float) -> Tensor:
    """Dim 1 (views) holds one direction over and over, but for noise."""
    return x[:, :1] + noise * x


def _parallel(x: Tensor) -> Tensor:
    """The same with norms from 1 to 2: where one-pass normalizing cancels."""
    norms = torch.linspace(1, 2, x.shape[1], dtype=x.dtype).view(1, -1, *[1] * (x.dim() - 2))
    return _near(x, 1e-3) * norms


def _dead(x: Tensor) -> Tensor:
    """Index 0 of dim 1 is zero everywhere: a dead unit of [points, units], a zero view of [points, views, ...]."""
    x = x.clone()
    x[:, 0] = 0
    return x


HAZARDS = {
    "NaN": lambda x: _put(x, nan),
    "inf": lambda x: _put(x, inf),
    "tied points": _tie,
    "equal views": lambda x: x[:, :1].expand_as(x).clone(),
    "near views 1e-3": lambda x: _near(x, 1e-3),
    "near views 1e-6": lambda x: _near(x, 1e-6),
    "parallel views": _parallel,
    "dead": _dead,
    "rectified": lambda x: x.relu(),
    "large": lambda x: x * 2.0**12,
    "small": lambda x: x * 2.0**-12,
}
