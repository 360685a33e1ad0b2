"""What a suite knows of an op: how inputs are drawn, made and called, and what results are held to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from agreement.cases import HAZARDS, Case, in_memory, values
from hypothesis import strategies as st
from torch import Tensor

from python_tests.helpers import testing

Results = tuple[Tensor, ...]
# One result: its name, what came, what was expected, the dtype it must have.
Judged = tuple[str, Tensor, testing.Expected, torch.dtype]

DTYPES = ("float32", "float64", "bfloat16", "float16")
WIDE = ("float32", "float64")
POINTS, SMALL, FLAG = st.integers(1, 4), st.integers(1, 5), st.booleans()


class Drawn(NamedTuple):
    """What an op may be asked.

    Attributes:
        shape: Of the main input.
        options: Of the call.
        dtypes: Of the main input, to choose from.
        hazards: Keys of ``HAZARDS``, to choose from.
    """

    shape: tuple[int, ...]
    options: dict[str, Any]
    dtypes: tuple[str, ...] = DTYPES
    hazards: tuple[str, ...] = tuple(HAZARDS)


class Op(NamedTuple):
    """An op of the suites.

    Attributes:
        draw: Draws a case; takes hypothesis' draw and the largest size of a dimension.
        inputs: The tensors of a case, in their layouts, on the CPU.
        call: Runs the op on a backend, on whatever device the inputs are.
        judge: What each result is held to.
        example: Arguments of the registered op, the backend apart, for activations [N, V, U, S]; for opcheck, and for
            functions of a backend table. None: the op takes no activations.
        table: The op's backend table: its module in memkern.ops and its name there.
        together: Which arguments of ``example`` a kernel reads together, on one device.
    """

    draw: Callable[[st.DrawFn, int], Drawn]
    inputs: Callable[[Case], Results]
    call: Callable[[Case, Results, str], Results]
    judge: Callable[[Case, Results, Results], Iterator[Judged]]
    example: Callable[[Tensor], tuple[Any, ...]] | None
    table: tuple[str, str]
    together: tuple[int, ...] = ()

    def rows(self) -> dict[str, Callable[..., Any]]:
        """The op's backend table."""
        module, name = self.table
        return getattr(importlib.import_module(f"memkern.ops.{module}"), name)


def main_input(case: Case) -> Tensor:
    """The values of a case in its layout."""
    return in_memory(case, values(case))


def one_input(case: Case) -> Results:
    """The inputs of an op that takes one tensor."""
    return (main_input(case),)


def last_size(draw: st.DrawFn, largest: int) -> int:
    """A size of the last dimension: small ones, whole vectors and what lies beside them, a large one."""
    sizes = [size for size in (64, 127, 128, 200, 1025, largest) if size <= largest]
    return draw(st.integers(1, 40) | st.sampled_from(sizes))


def view_count(draw: st.DrawFn, largest: int) -> int:
    """A number of views."""
    return draw(st.integers(2, 6) | st.sampled_from([9, 10, 17] if largest > 200 else [9]))


def comparison(draw: st.DrawFn) -> dict[str, Any]:
    """Options of the ops that compare views."""
    return {"pairs": draw(st.sampled_from(("all", "anchor"))), "normalize": draw(FLAG)}


def means_of(x: Tensor) -> Tensor:
    """Activations as a matrix of means, in their accumulating dtype."""
    return x.detach().flatten(1).to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def averaging(draw: st.DrawFn, dims: int) -> dict[str, Any]:
    """Options of the ops that average activations."""
    return {"activation": draw(st.sampled_from(("raw", "relu", "abs"))), "unit_dim": draw(st.integers(1, dims - 1))}
