"""What the agreement suite calls and how it judges: one entry per op, each against the float64 reference.

The unit of error is what plain torch errs on the same input in the same accumulating dtype, plus a few roundings
(helpers/error_budgets): a result may err by FACTOR of these, which is how the tests of the ops hold their kernels too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from agreement.cases import Case, in_memory, values
from torch import Tensor

import memkern
from memkern import native, reference
from memkern.ops.class_sums import class_sums
from memkern.ops.median_of_others import median_of_others
from memkern.ops.pointwise_stats import Pointwise, pointwise_stats
from memkern.ops.selectivity import selectivity
from memkern.transforms import PRESETS
from python_tests.helpers import testing

Results = tuple[Tensor, ...]
# One result: its name, what came, what was expected, the dtype it must have.
Judged = tuple[str, Tensor, testing.Expected, torch.dtype]


class Op(NamedTuple):
    """An op of the suite.

    Attributes:
        inputs: The tensors of a case, in their layouts, on the CPU.
        call: Runs the op on a backend, on whatever device the inputs are.
        judge: What each result is held to.
        backends: Those that have a kernel, if not all.
    """

    inputs: Callable[[Case], Results]
    call: Callable[[Case, Results, str], Results]
    judge: Callable[[Case, Results, Results], Iterator[Judged]]
    backends: tuple[str, ...] = ("reference", "cpu", "cuda", "triton")


def worst_error(case: Case, inputs: Results, results: Results) -> float:
    """Asserts every result and returns the worst error in units, the rounding to the result's dtype apart.

    Raises:
        AssertionError: If anything is wrong; says the case.
    """
    worst = 0.0
    for name, got, want, dtype in OPS[case.op].judge(case, inputs, results):
        testing.assert_within(got, want, dtype, f"{name} of {case}")
        info = torch.finfo(dtype)
        last_rounding = want.oracle.abs() * (info.eps / 2) + info.tiny * info.eps
        error = ((got.double() - want.oracle).abs() - last_rounding).clamp_min(0) / want.tolerance * testing.FACTOR
        worst = max(worst, error[error.isfinite()].max().item() if error.isfinite().any() else 0.0)
    return worst


def _main(case: Case) -> Tensor:
    return in_memory(case, values(case))


# ---- alignment and its gradient -------------------------------------------------------------------------------------


def _alignment(case: Case, inputs: Results, backend: str) -> Results:
    return (memkern.alignment(inputs[0], backend=backend, **case.options),)


def _judge_alignment(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = testing.expected_alignment(inputs[0], **case.options)
    yield "alignment", results[0], want, native.wide(inputs[0].dtype)


def _upstream(case: Case) -> Results:
    z = _main(case)
    return z, testing.randn(z.shape[0], dtype=native.wide(z.dtype))


def _gradient(case: Case, inputs: Results, backend: str) -> Results:
    leaf = inputs[0].detach().requires_grad_()
    memkern.alignment(leaf, backend=backend, **case.options).backward(inputs[1])
    assert leaf.grad is not None
    return (leaf.grad,)


def _judge_gradient(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = testing.expected_gradient(*inputs, **case.options)
    yield "gradient", results[0], want, inputs[0].dtype


# ---- means and what is made of them ---------------------------------------------------------------------------------


def _unit_means(case: Case, inputs: Results, backend: str) -> Results:
    return (memkern.unit_means(inputs[0], backend=backend, **case.options),)


def _judge_unit_means(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    yield "unit means", results[0], testing.expected_unit_means(inputs[0], **case.options), native.wide(inputs[0].dtype)


def _layer_stats(case: Case, inputs: Results, backend: str) -> Results:
    return tuple(memkern.layer_stats(inputs[0], backend=backend, **case.options))


def _judge_layer_stats(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    wide, options = native.wide(inputs[0].dtype), dict(case.options)
    unit_dim = options.pop("unit_dim")
    yield "alignment", results[0], testing.expected_alignment(inputs[0], **options), wide
    yield "unit means", results[1], testing.expected_unit_means(inputs[0], unit_dim=unit_dim), wide


def _layer_numbers(case: Case) -> Results:
    """The input, and four numbers of each unit: what a batch norm is made of."""
    x = _main(case)
    mean, variance, weight, bias = testing.randn(4, x.shape[case.options["unit_dim"]])
    return x, mean, variance.abs() + 0.1, weight, bias


def _pointwise(case: Case, inputs: Results) -> list[Pointwise]:
    layers = {"batch_norm": Pointwise("batch_norm", inputs[1:], 1e-5)}
    return [layers.get(name, Pointwise(name)) for name in case.options["layers"]]


def _pointwise_stats(case: Case, inputs: Results, backend: str) -> Results:
    options = {key: value for key, value in case.options.items() if key != "layers"}
    return tuple(pointwise_stats(inputs[0], _pointwise(case, inputs), backend=backend, **options))


def _judge_pointwise_stats(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    """The output beside float32 torch's; statistics against the reference on the output that came."""
    x, output = inputs[0], results[0]
    options = {key: value for key, value in case.options.items() if key not in ("layers", "unit_dim")}
    unit_dim, wanted, usual = case.options["unit_dim"], x.double(), x
    for layer in _pointwise(case, inputs):
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


def _selectivity(case: Case, inputs: Results, backend: str) -> Results:
    state = selectivity(inputs[0], ids=inputs[1], backend=backend, **case.options)
    return state.peak, state.index, state.rest, state.low


def _shuffled_ids(case: Case) -> Results:
    x = _main(case)
    return x, torch.randperm(x.shape[0], generator=testing.rng("ids", case.seed)) * 3


def _judge_selectivity(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    (x, ids), (peak, index, rest, low) = inputs, results
    wide, order = native.wide(x.dtype), ids.argsort()
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


def _median(case: Case, inputs: Results, backend: str) -> Results:
    return (median_of_others(inputs[0], backend=backend),)


def _judge_median(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    want = reference.median_of_others(inputs[0])
    exact = torch.zeros_like(want)  # the mean of two middle values is exact in float64, and rounded once
    yield "median", results[0], testing.Expected(want, exact), inputs[0].dtype


def _labels(case: Case) -> Results:
    x = _main(case)
    return x, torch.randint(case.options["classes"], (x.shape[0],), generator=testing.rng("labels", case.seed))


def _class_sums(case: Case, inputs: Results, backend: str) -> Results:
    return (class_sums(*inputs, backend=backend, **case.options),)


def _judge_class_sums(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
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


# ---- views ----------------------------------------------------------------------------------------------------------


def _photos(case: Case) -> Results:
    """Images in 0 to 1, or 0 to 255 in uint8, and the parameters of their views."""
    x = values(replace(case, dtype="float64")).sigmoid()
    x = (x.nan_to_num(0.0) * 255).round().to(torch.uint8) if case.options["pixel"] == "uint8" else x.float()
    return in_memory(case, x), _view_params(case)


def _spec(case: Case) -> memkern.ViewSpec:
    """A float pixel within rounding of the threshold of solarize may fall on either side: floats do without."""
    options = {"blur_size": 3, "size": None, "antialias": case.options["antialias"], "mean": 0.5, "std": 0.5}
    options |= {"solarize": 0.0} if case.options["pixel"] == "float32" else {}
    return replace(PRESETS[case.options["preset"]], **options)


def _view_params(case: Case) -> Tensor:
    (n, _, *size), spec = case.shape, _spec(case)
    return memkern.view_params(spec, n_views=2, seed=case.seed, index=range(n), image_size=size)


def _views(case: Case, inputs: Results, backend: str) -> Results:
    images, params = inputs
    made = memkern.views(
        images, params=params, transform=_spec(case), size=case.options["size"], backend=backend,
        channels_last=case.options["channels_last"],
    )  # fmt: skip
    return (made,)


def _judge_views(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    """Within 1/255 of torchvision for uint8 images, 1e-5 for float32 ones; both doubled by the normalization."""
    images, params = inputs
    want = reference.views([images], params, size=case.options["size"], antialias=case.options["antialias"],
                           blur_size=3).double()  # fmt: skip
    allowed = 2.001 / 255 if images.dtype == torch.uint8 else 2e-5
    yield "views", results[0], testing.Expected(want, torch.full_like(want, allowed)), torch.float32


OPS = {
    "alignment": Op(lambda case: (_main(case),), _alignment, _judge_alignment),
    "alignment_backward": Op(_upstream, _gradient, _judge_gradient),
    "unit_means": Op(lambda case: (_main(case),), _unit_means, _judge_unit_means),
    "layer_stats": Op(lambda case: (_main(case),), _layer_stats, _judge_layer_stats),
    "pointwise_stats": Op(_layer_numbers, _pointwise_stats, _judge_pointwise_stats, ("reference", "cpu")),
    "selectivity": Op(_shuffled_ids, _selectivity, _judge_selectivity),
    "median_of_others": Op(lambda case: (_main(case),), _median, _judge_median),
    "class_sums": Op(_labels, _class_sums, _judge_class_sums),
    "views": Op(_photos, _views, _judge_views),
}
