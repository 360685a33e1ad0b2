"""unit_means in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
from agreement.cases import Case
from agreement.op import POINTS, SMALL, Drawn, Judged, Op, Results, averaging, last_size, one_input
from torch import Tensor

import memkern
from memkern import native
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    space = draw(st.lists(SMALL, max_size=3))
    shape = (draw(POINTS if space else st.integers(1, 40)), draw(SMALL), *space, last_size(draw, largest))
    return Drawn(shape, averaging(draw, len(shape)))


def _call(case: Case, inputs: Results, backend: str) -> Results:
    return (memkern.unit_means(inputs[0], backend=backend, **case.options),)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    yield (
        "unit means",
        results[0],
        testing.expected_unit_means(inputs[0], **case.options),
        native.accumulate_dtype(inputs[0].dtype),
    )


def _example(x: Tensor) -> tuple[object, ...]:
    return x.detach(), 2, "relu"


OP = Op(_draw, one_input, _call, _judge, _example, ("unit_means", "TABLE"))
