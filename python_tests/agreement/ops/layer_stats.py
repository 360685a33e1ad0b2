"""layer_stats in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
from agreement.cases import Case
from agreement.op import POINTS, SMALL, Drawn, Judged, Op, Results, comparison, last_size, one_input, view_count
from torch import Tensor

import memkern
from memkern import native
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    shape = draw(POINTS), view_count(draw, largest), draw(SMALL), draw(SMALL), last_size(draw, largest)
    return Drawn(shape, {**comparison(draw), "unit_dim": draw(st.integers(2, 4))})


def _call(case: Case, inputs: Results, backend: str) -> Results:
    return tuple(memkern.layer_stats(inputs[0], backend=backend, **case.options))


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    wide, options = native.accumulate_dtype(inputs[0].dtype), dict(case.options)
    unit_dim = options.pop("unit_dim")
    yield "alignment", results[0], testing.expected_alignment(inputs[0], **options), wide
    yield "unit means", results[1], testing.expected_unit_means(inputs[0], unit_dim=unit_dim), wide


def _example(x: Tensor) -> tuple[object, ...]:
    return x, 2, True, False, x.requires_grad


OP = Op(_draw, one_input, _call, _judge, _example, ("layer_stats", "TABLE"))
