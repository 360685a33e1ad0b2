"""median_of_others in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import torch
from agreement.cases import Case
from agreement.op import WIDE, Drawn, Judged, Op, Results, last_size, means_of, one_input
from torch import Tensor

from memkern import reference
from memkern.ops.median_of_others import median_of_others
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    return Drawn((draw(st.integers(2, 60)), last_size(draw, largest)), {}, WIDE)


def _call(case: Case, inputs: Results, backend: str) -> Results:
    return (median_of_others(inputs[0], backend=backend),)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = reference.median_of_others(inputs[0])
    exact = torch.zeros_like(want)  # the mean of two middle values is exact in float64, and rounded once
    yield "median", results[0], testing.Expected(want, exact), inputs[0].dtype


def _example(x: Tensor) -> tuple[object, ...]:
    return (means_of(x),)


OP = Op(_draw, one_input, _call, _judge, _example, ("median_of_others", "TABLE"))
