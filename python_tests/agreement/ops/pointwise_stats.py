"""pointwise_stats in the suites."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import torch
from agreement.cases import Case
from agreement.op import POINTS, SMALL, Drawn, Judged, Op, Results, comparison, last_size, main_input, view_count
from torch import Tensor

from memkern.ops.pointwise_stats import Pointwise, pointwise_stats
from python_tests.helpers import testing

# A batch norm moves nearly equal views to where float32 cannot tell them apart.
HAZARDS = ("tied points", "near views 1e-3", "equal views", "dead", "rectified")
LAYERS = (["batch_norm"], ["relu"], ["gelu"], ["batch_norm", "relu"], ["relu", "batch_norm"])


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    shape = draw(POINTS), view_count(draw, largest), draw(SMALL), draw(SMALL), last_size(draw, largest)
    options = {**comparison(draw), "unit_dim": draw(st.integers(2, 4)), "layers": draw(st.sampled_from(LAYERS))}
    return Drawn(shape, options, ("float32",), HAZARDS)


def _inputs(case: Case) -> Results:
    """The input, and four numbers of each unit: what a batch norm is made of."""
    x = main_input(case)
    mean, variance, weight, bias = testing.randn(4, x.shape[case.options["unit_dim"]])
    return x, mean, variance.abs() + 0.1, weight, bias


def _layers(case: Case, inputs: Results) -> list[Pointwise]:
    layers = {"batch_norm": Pointwise("batch_norm", inputs[1:], 1e-5)}
    return [layers.get(name, Pointwise(name)) for name in case.options["layers"]]


def _call(case: Case, inputs: Results, backend: str) -> Results:
    options = {key: value for key, value in case.options.items() if key != "layers"}
    return tuple(pointwise_stats(inputs[0], _layers(case, inputs), backend=backend, **options))


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    """The output beside float32 torch's; statistics against the reference on the output that came."""
    x, output = inputs[0], results[0]
    options = {key: value for key, value in case.options.items() if key not in ("layers", "unit_dim")}
    unit_dim, wanted, usual = case.options["unit_dim"], x.double(), x
    for layer in _layers(case, inputs):
        wanted, usual = (_run_layer(each, layer, unit_dim) for each in (wanted, usual))
    error = (usual.double() - wanted).abs().amax() + wanted.abs().amax() * 2**-22
    yield "output", output, testing.Expected(wanted, error.expand(wanted.shape)), torch.float32
    for name, tensor, at in (("input", x, 0), ("output", output, -1)):
        yield f"alignment of the {name}", results[1][at], testing.expected_alignment(tensor, **options), torch.float32
        means = testing.expected_unit_means(tensor, unit_dim=unit_dim)
        yield f"unit means of the {name}", results[2][at], means, torch.float32


def _run_layer(x: Tensor, layer: Pointwise, unit_dim: int) -> Tensor:
    if layer.function != "batch_norm":
        return getattr(torch.nn.functional, layer.function)(x)
    moments = [None if moment is None else moment.to(x.dtype) for moment in layer.moments]
    return torch.nn.functional.batch_norm(x.movedim(unit_dim, 1), *moments, eps=layer.epsilon).movedim(1, unit_dim)


OP = Op(_draw, _inputs, _call, _judge, None, ("pointwise_stats", "TABLE"))
