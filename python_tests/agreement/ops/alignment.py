"""alignment in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
from agreement.cases import Case
from agreement.op import POINTS, Drawn, Judged, Op, Results, comparison, last_size, one_input, view_count
from torch import Tensor

import memkern
from memkern import native
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    return Drawn((draw(POINTS), view_count(draw, largest), last_size(draw, largest)), comparison(draw))


def _call(case: Case, inputs: Results, backend: str) -> Results:
    return (memkern.alignment(inputs[0], backend=backend, **case.options),)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = testing.expected_alignment(inputs[0], **case.options)
    yield "alignment", results[0], want, native.accumulate_dtype(inputs[0].dtype)


def _example(x: Tensor) -> tuple[object, ...]:
    return x, False, True, x.requires_grad


OP = Op(_draw, one_input, _call, _judge, _example, ("alignment", "TABLE"))
