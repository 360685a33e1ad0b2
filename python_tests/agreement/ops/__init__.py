"""What the suites call of each op, and how they judge it: one file per op, found by its name.

The unit of error is what plain torch errs on the same input in the same accumulating dtype, plus a few roundings
(memkern.testing): a result may err by FACTOR of these units, which is how the tests of the ops hold their kernels too.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import hypothesis
import torch
from agreement.cases import Case
from agreement.op import Op, Results
from hypothesis import strategies as st

from python_tests.helpers import testing

__all__ = ["OPS", "Op", "Results", "drawn_cases_agree", "worst_error"]

OPS: dict[str, Op] = {
    module.name: importlib.import_module(f"agreement.ops.{module.name}").OP for module in pkgutil.iter_modules(__path__)
}


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


@st.composite
def _cases(draw: st.DrawFn, op: str, largest: int) -> Case:
    shape, options, dtypes, hazards = OPS[op].draw(draw, largest)
    return Case(
        op, shape, draw(st.sampled_from(dtypes)), draw(st.sampled_from(tuple(testing.LAYOUTS))),
        tuple(draw(st.lists(st.sampled_from(hazards), max_size=2, unique=True))), options, draw(st.integers(0, 2**20)),
    )  # fmt: skip


def drawn_cases_agree(op: str, examples: int, largest: int, run: Callable[[Case], Results]) -> tuple[int, float]:
    """Asserts what ``run`` returns of drawn cases.

    Args:
        op: A key of ``OPS``.
        examples: How many cases are drawn.
        largest: Of a shape's last dimension.
        run: Runs a case.

    Returns:
        How many cases ran, and the worst error in units.

    Raises:
        AssertionError: If anything is wrong; says the case.
    """
    count, worst = 0, 0.0

    @hypothesis.settings(max_examples=examples)
    @hypothesis.given(case=_cases(op, largest))
    def check(case: Case) -> None:
        nonlocal count, worst
        count, worst = count + 1, max(worst, worst_error(case, OPS[op].inputs(case), run(case)))

    check()
    return count, worst
