"""How often the Triton kernels read their input: every element by one program, and no more often than the design says.

Only the interpreter can count, so ttsem does not collect this file. What one program reads again lies in its cache:
views that meet another tile of views, and the units of a chunk whose pairs have been summed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, interpreter_builder

from memkern.triton_kernels import launches
from memkern.triton_kernels.alignment import alignment
from memkern.triton_kernels.alignment_backward import alignment_backward
from memkern.triton_kernels.class_sums import class_sums
from memkern.triton_kernels.layer_stats import layer_stats
from memkern.triton_kernels.selectivity import selectivity
from memkern.triton_kernels.unit_means import unit_means
from python_tests.helpers import testing

pytestmark = pytest.mark.numbers


class Reads:
    """How often each element of a tensor was asked for, by which program, and whether by two of them."""

    def __init__(self, x: Tensor) -> None:
        self.times = np.zeros(x.numel(), np.int64)
        self.program = np.full(x.numel(), -1)
        self.shared = False

    def add(self, elements: np.ndarray, program: int) -> None:
        np.add.at(self.times, elements, 1)
        self.shared |= bool(np.any((self.program[elements] >= 0) & (self.program[elements] != program)))
        self.program[elements] = program


@contextlib.contextmanager
def reads_of(x: Tensor) -> Iterator[Reads]:
    reads, load, programs = Reads(x), InterpreterBuilder.create_masked_load, dict[tuple[int, ...], int]()
    first, last = x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()

    def counted(self, pointers, mask, *rest, **more):
        at = np.asarray(pointers.data).ravel()[np.asarray(mask.data).ravel().astype(bool)]
        at = at[(at >= first) & (at < last)]
        program = programs.setdefault(interpreter_builder.grid_idx, len(programs))
        reads.add((at - first).astype(np.int64) // x.element_size(), program)
        return load(self, pointers, mask, *rest, **more)

    with mock.patch.object(InterpreterBuilder, "create_masked_load", counted):
        yield reads


def check(x: Tensor, call, times: float) -> None:
    with reads_of(x) as reads:
        call()
    assert reads.times.min() > 0, "not every element was read"
    assert not reads.shared, "two programs read one element"
    assert reads.times.mean() == times


@pytest.mark.parametrize(
    ("views", "anchor", "times"),
    [
        (2, False, 1),  # every two views are compared in registers
        (4, False, 1),
        (10, False, 1),
        (16, False, 2),  # two groups of 8: each by itself, then both together
        (8, True, 1 + 1 / 8),  # the anchor besides
    ],
)
def test_alignment(views, anchor, times):
    z = testing.randn(2, views, 1100 if views < 10 else 300)  # more than a piece; the interpreter is slow
    check(z, lambda: alignment(z, anchor, True, False), times)


@pytest.mark.parametrize(("views", "anchor", "times"), [(4, False, 2), (3, True, 2 * (1 + 1 / 3))])
def test_alignment_of_parallel_views(views, anchor, times, monkeypatch):
    """Of different lengths: a point is read once more, not each pair; a point without such views is not."""
    monkeypatch.setitem(launches._VALUES, ("alignment", "second_look_dims"), 0)
    z = testing.near_parallel(2, views, 300, eps=0.04, spread=1.0)
    check(z, lambda: alignment(z, anchor, True, False), times)
    check(z, lambda: alignment(z, anchor, False, False), times / 2)
    z[1] = testing.randn(views, 300)
    with reads_of(z) as reads:
        alignment(z, anchor, True, False)
    assert reads.times.reshape(2, -1).mean(1).tolist() == [times, times / 2]


def test_alignment_of_equal_views():
    z = testing.randn(2, 1, 300).repeat(1, 4, 1)
    check(z, lambda: alignment(z, False, True, False), 1)


def test_alignment_backward():
    z = testing.randn(2, 4, 700)
    _, saved = alignment(z, False, True, True)
    # each view once for its own gradient, all four once for every two of them
    check(z, lambda: alignment_backward(torch.ones(2), z, saved, False, True), 3)


@pytest.mark.parametrize(("shape", "unit_dim"), [((2, 3, 5, 7, 7), 2), ((2, 3, 50, 20), 3), ((3, 1300), 1)], ids=str)
def test_unit_means(shape, unit_dim):
    x = testing.randn(*shape)
    check(x, lambda: unit_means(x, unit_dim, "raw"), 1)


@pytest.mark.parametrize(
    ("shape", "unit_dim", "times"),
    [
        ((1, 4, 90, 7, 7), 2, 2),  # a chunk's pairs, then its units
        ((1, 4, 250, 20), 3, 2),
        ((1, 4, 3, 56, 56), 2, 1),  # large maps: both at once
    ],
    ids=str,
)
def test_layer_stats(shape, unit_dim, times):
    x = testing.randn(*shape)
    check(x, lambda: layer_stats(x, unit_dim, False, True, False), times)


def test_layer_stats_of_parallel_views():
    x = testing.near_parallel(1, 3, 3, 40, 40, eps=0.1, spread=1.0)
    with reads_of(x) as reads:
        layer_stats(x, 2, False, True, False)
    assert reads.times.mean() == 2  # pieces of maps, then pieces of views


def test_selectivity():
    x = testing.randn(300, 5)
    check(x, lambda: selectivity(x, 1, "raw", None), 1)


def test_class_sums():
    x, labels = testing.randn(60, 6), torch.randint(0, 4, (60,), generator=testing.rng("labels"))
    check(x, lambda: class_sums(x, labels, 4), 1)
