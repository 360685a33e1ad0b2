"""selectivity in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import torch
from agreement.cases import Case
from agreement.op import POINTS, SMALL, Drawn, Judged, Op, Results, averaging, last_size, main_input
from torch import Tensor

from memkern import native, reference
from memkern.ops.selectivity import selectivity
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    space = draw(st.lists(SMALL, max_size=3))
    shape = (draw(POINTS if space else st.integers(1, 40)), draw(SMALL), *space, last_size(draw, largest))
    return Drawn(shape, averaging(draw, len(shape)))


def _call(case: Case, inputs: Results, backend: str) -> Results:
    state = selectivity(inputs[0], ids=inputs[1], backend=backend, **case.options)
    return state.peak, state.index, state.rest, state.minimum


def _inputs(case: Case) -> Results:
    x = main_input(case)
    return x, torch.randperm(x.shape[0], generator=testing.rng("ids", case.seed)) * 3


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    (x, ids), (peak, index, rest, low) = inputs, results
    wide, order = native.accumulate_dtype(x.dtype), ids.argsort()
    means = testing.expected_unit_means(x[order], **case.options)
    want_peak, position, want_rest, want_low = reference.selectivity(x[order], **case.options)
    slack = (means.tolerance + means.oracle.abs() * torch.finfo(wide).eps / 2).nan_to_num(0, 0, 0)
    yield "peak", peak, testing.Expected(want_peak, slack.amax(0)), wide
    yield "low", low, testing.Expected(want_low, slack.amax(0)), wide
    got, units = torch.searchsorted(ids[order], index), torch.arange(len(index))
    assert torch.equal(ids[order][got], index), f"{case}: an index that is no id"
    # Two means closer than their rounding errors may change places; equal ones may not.
    other = got != position
    apart = (means.oracle[got, units] - want_peak).abs()
    assert not (other & ~((apart > 0) & (apart <= 2 * slack.amax(0)))).any(), f"{case}: index {index}"
    yield "rest", rest[~other], testing.Expected(want_rest[~other], slack.sum(0)[~other] + 1e-300), torch.float64


def _example(x: Tensor) -> tuple[object, ...]:
    return x.detach(), 1, "abs", torch.arange(len(x) - 1, -1, -1)


OP = Op(_draw, _inputs, _call, _judge, _example, ("selectivity", "TABLE"), together=(0, 3))
