"""class_sums in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import torch
from agreement.cases import Case
from agreement.op import WIDE, Drawn, Judged, Op, Results, last_size, main_input, means_of
from torch import Tensor

from memkern import reference
from memkern.ops.class_sums import class_sums
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    shape = draw(st.integers(2, 60)), last_size(draw, largest)
    return Drawn(shape, {"classes": draw(st.integers(1, 5))}, WIDE)


def _inputs(case: Case) -> Results:
    x = main_input(case)
    return x, torch.randint(case.options["classes"], (x.shape[0],), generator=testing.rng("labels", case.seed))


def _call(case: Case, inputs: Results, backend: str) -> Results:
    return (class_sums(*inputs, backend=backend, **case.options),)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    """Sums in float64, in any order: an epsilon of the magnitudes for each addition."""
    means, labels = inputs
    magnitude = reference.class_sums(means.abs(), labels, **case.options)
    tolerance = (magnitude * len(means) * torch.finfo(torch.float64).eps).nan_to_num(0, 0, 0)
    yield (
        "sums",
        results[0],
        testing.Expected(reference.class_sums(means, labels, **case.options), tolerance),
        (torch.float64),
    )


def _example(x: Tensor) -> tuple[object, ...]:
    return means_of(x), torch.arange(len(x)) % 3, 3


OP = Op(_draw, _inputs, _call, _judge, _example, ("class_sums", "TABLE"), together=(0, 1))
