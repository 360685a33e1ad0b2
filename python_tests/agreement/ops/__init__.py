"""What the suites call of each op, and how they judge it: one file per op, found by its name.

The unit of error is what plain torch errs on the same input in the same accumulating dtype, plus a few roundings
(memkern.testing): a result may err by FACTOR of these units, which is how the tests of the ops hold their kernels too.
"""

from __future__ import annotations

import importlib
import pkgutil

import torch
from agreement.cases import Case
from agreement.op import Op, Results

from python_tests.helpers import testing

__all__ = ["OPS", "Op", "Results", "worst_error"]

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
