"""What every streaming metric is put through: the cases, and points on which every bit must agree.

A case says how to make one metric, how to give it points, and what the function for data in memory makes of all of
them. `python_tests/metrics/test_streaming.py` holds the tests; a new metric adds its case here.
"""

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

import memkern
from python_tests.helpers.testing import assert_same_bits, randn, relu_features


class Points(NamedTuple):
    """Points that every metric can take: activations [N, U], two stacks of views [N, V, D], labels [N], ids [N]."""

    x: Tensor
    z_f: Tensor
    z_g: Tensor
    labels: Tensor
    ids: Tensor

    def __getitem__(self, rows: Any) -> "Points":
        return Points(*(column[rows] for column in self._asdict().values()))

    def to(self, dtype: torch.dtype) -> "Points":
        return self._replace(x=self.x.to(dtype), z_f=self.z_f.to(dtype), z_g=self.z_g.to(dtype))


def points(x: Tensor, labels: Tensor | None = None) -> Points:
    """Points with these activations; ids ascend, so that the lowest id on ties is the first row."""
    count = len(x)
    z_f, z_g = relu_features(count, 3, 5), randn(count, 3, 4)
    z_f[x.isnan().any(1), 0, 0] = torch.nan
    labels = torch.arange(count) % 4 if labels is None else labels
    return Points(x, z_f, z_g, labels, 100 + 7 * torch.arange(count))


@st.composite
def some_points(draw: st.DrawFn) -> Points:
    """2 to 12 points with small integer means (so that sums are exact), many ties and some NaN."""
    count, units = draw(st.integers(2, 12)), draw(st.integers(1, 3))
    numbers = st.one_of(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([0.0, -0.0, torch.nan]))
    values = draw(st.lists(numbers, min_size=count * units, max_size=count * units))
    x = torch.tensor(values, dtype=torch.float32).reshape(count, units)
    labels = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count).filter(lambda a: len({*a}) > 1))
    return points(x, torch.tensor(labels))


@st.composite
def batches(draw: st.DrawFn, count: int) -> list[list[int]]:
    """The rows in any order, cut anywhere; some batches are empty."""
    order = draw(st.permutations(range(count)))
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=4)))
    return [list(order[first:last]) for first, last in itertools.pairwise([0, *cuts, count])]


def torchmetrics_unitmem(**options: Any) -> Any:
    import pytest

    pytest.importorskip("torchmetrics", reason="torchmetrics is an extra (memkern[metrics])")
    from memkern.torchmetrics import UnitMem

    metric = UnitMem(**options)
    metric.persistent(True)
    return metric


@dataclass(frozen=True)
class Case:
    """One metric with one set of options."""

    make: Callable[..., Any]
    update: Callable[[Any, Points], None]
    in_memory: Callable[..., Any]  # of Points, and the backend: the same statistics, or the score alone
    entries: tuple[str, ...]  # the keys of a state_dict, in order
    options: dict[str, Any] = field(default_factory=dict)
    merge: Callable[[Any, Any], None] = lambda metric, other: metric.merge(other)

    def new(self, **more: Any) -> Any:
        return self.make(**self.options, **more)

    def of(self, part: Points, **more: Any) -> Any:
        metric = self.new(**more)
        self.update(metric, part)
        return metric


def unit_case(**options: Any) -> Case:
    def in_memory(p: Points, backend: str) -> Any:
        return memkern.unitmem_stats(p.x, ids=p.ids, backend=backend, **options)

    entries = ("peak", "index", "rest", "low", "count", *(["means"] if options.get("rest") == "median" else []))
    return Case(memkern.UnitMem, lambda metric, p: metric.update(p.x, ids=p.ids), in_memory, entries, options)


def class_case(**options: Any) -> Case:
    def in_memory(p: Points, backend: str) -> Any:
        return memkern.classmem_stats(p.x, p.labels, backend=backend, **options)

    entries = ("sums", "count", "wide")
    return Case(memkern.ClassMem, lambda metric, p: metric.update(p.x, p.labels), in_memory, entries, options)


def layer_case(**options: Any) -> Case:
    def in_memory(p: Points, backend: str) -> Any:
        return memkern.layermem(p.z_f, p.z_g, backend=backend, **options)

    entries = ("alignment_f", "alignment_g", "ids")
    return Case(memkern.LayerMem, lambda metric, p: metric.update(p.z_f, p.z_g, p.ids), in_memory, entries, options)


def torchmetrics_case() -> Case:
    return Case(
        torchmetrics_unitmem,
        lambda metric, p: metric.update(p.x, ids=p.ids),
        unit_case().in_memory,
        ("state",),
        merge=lambda metric, other: metric.merge_state(other),
    )


CASES = {
    "UnitMem": unit_case(),
    "UnitMem, median": unit_case(rest="median"),
    "UnitMem, abs": unit_case(activation="abs"),
    "ClassMem": class_case(),
    "ClassMem, median": class_case(rest="median"),
    "ClassMem, five classes": class_case(num_classes=5),
    "LayerMem": layer_case(),
    "LayerMem, range": layer_case(scale="range", pairs="anchor"),
    "torchmetrics": torchmetrics_case(),
}


def assert_same_stats(got: Any, want: Any) -> None:
    """Asserts that two results are the same to the last bit; `want` may be the score alone."""
    if isinstance(want, Tensor):
        assert_same_bits(got.score, want, "score")
        return
    for name, a, b in zip(got._fields, got, want, strict=True):
        assert_same_bits(torch.as_tensor(a), torch.as_tensor(b), name)


def through_pickle(metric: Any) -> Any:
    return pickle.loads(pickle.dumps(metric))
