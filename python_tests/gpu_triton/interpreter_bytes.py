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

from memkern import testing
from memkern.triton_kernels.alignment import alignment
from memkern.triton_kernels.alignment_backward import alignment_backward
from memkern.triton_kernels.class_sums import class_sums
from memkern.triton_kernels.layer_stats import layer_stats
from memkern.triton_kernels.selectivity import selectivity
from memkern.triton_kernels.unit_means import unit_means

pytestmark = pytest.mark.numbers


class Reads:
    """Elements of one tensor that were asked for, and by how many programs the most read of them was."""

    def __init__(self) -> None:
        self.requested = 0
        self.programs: dict[int, set[tuple[int, ...]]] = {}


@contextlib.contextmanager
def reads_of(x: Tensor) -> Iterator[Reads]:
    reads, load = Reads(), InterpreterBuilder.create_masked_load
    first, last = x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()

    def counted(self, pointers, mask, *rest, **more):
        at = np.asarray(pointers.data).ravel()[np.asarray(mask.data).ravel().astype(bool)]
        at = at[(at >= first) & (at < last)]
        reads.requested += at.size
        for address in at.tolist():
            reads.programs.setdefault(address, set()).add(interpreter_builder.grid_idx)
        return load(self, pointers, mask, *rest, **more)

    with mock.patch.object(InterpreterBuilder, "create_masked_load", counted):
        yield reads


def check(x: Tensor, call, times: float) -> None:
    with reads_of(x) as reads:
        call()
    assert len(reads.programs) == x.numel(), "not every element was read"
    assert max(len(programs) for programs in reads.programs.values()) == 1, "two programs read one element"
    assert reads.requested == times * x.numel()


@pytest.mark.parametrize(
    ("views", "anchor", "times"),
    [
        (2, False, 2),  # rows and columns of the one tile
        (4, False, 2),
        (8, False, 3),  # tiles (0,0), (4,0), (4,4) of 8 rows each: 24 for 8 views
        (8, True, 1 + 1 / 8),  # the anchor besides
    ],
)
def test_alignment(views, anchor, times):
    z = testing.randn(2, views, 5000)
    check(z, lambda: alignment(z, anchor, True, False), times)


def test_alignment_backward():
    z = testing.randn(2, 4, 700)
    _, saved = alignment(z, False, True, True)
    check(z, lambda: alignment_backward(torch.ones(2), z, saved, False, True), 2)


@pytest.mark.parametrize(("shape", "unit_dim"), [((2, 3, 5, 7, 7), 2), ((2, 3, 50, 20), 3), ((3, 1300), 1)], ids=str)
def test_unit_means(shape, unit_dim):
    x = testing.randn(*shape)
    check(x, lambda: unit_means(x, unit_dim, "raw"), 1)


@pytest.mark.parametrize(("shape", "unit_dim"), [((1, 4, 90, 7, 7), 2), ((1, 4, 250, 20), 3)], ids=str)
def test_layer_stats(shape, unit_dim):
    x = testing.randn(*shape)
    check(x, lambda: layer_stats(x, unit_dim, False, True, False), 3)


def test_selectivity():
    x = testing.randn(300, 5)
    check(x, lambda: selectivity(x, 1, "raw", None), 1)


def test_class_sums():
    x, labels = testing.randn(60, 6), torch.randint(0, 4, (60,), generator=testing.rng("labels"))
    check(x, lambda: class_sums(x, labels, 4), 1)
