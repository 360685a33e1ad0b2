"""alignment_backward in the suites: the gradient of alignment."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import torch
from agreement.cases import Case
from agreement.op import POINTS, Drawn, Judged, Op, Results, comparison, last_size, main_input, view_count
from torch import Tensor

import memkern
from memkern import native
from python_tests.helpers import testing

# A gradient is 0/0 next to a zero or an infinite vector, and one of nearly equal views is only as good as its distance.
SMOOTH = ("tied points", "near views 1e-3", "parallel views", "equal views", "rectified", "large", "small")


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    shape = draw(POINTS), view_count(draw, largest), last_size(draw, largest)
    return Drawn(shape, comparison(draw), hazards=SMOOTH)


def _inputs(case: Case) -> Results:
    z = main_input(case)
    return z, testing.randn(z.shape[0], dtype=native.accumulate_dtype(z.dtype))


def _call(case: Case, inputs: Results, backend: str) -> Results:
    leaf = inputs[0].detach().requires_grad_()
    memkern.alignment(leaf, backend=backend, **case.options).backward(inputs[1])
    assert leaf.grad is not None
    return (leaf.grad,)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = testing.expected_gradient(*inputs, **case.options)
    yield "gradient", results[0], want, inputs[0].dtype


def _example(x: Tensor) -> tuple[object, ...]:
    grad = torch.ones(len(x), dtype=native.accumulate_dtype(x.dtype))
    saved = torch.ops.memkern.alignment(x.detach(), True, False, True, "auto")[1]
    return grad, x.detach(), saved, True, False


OP = Op(_draw, _inputs, _call, _judge, _example, ("alignment", "BACKWARD_TABLE"), together=(0, 1, 2))
