"""Every op on every backend that this machine can run, on drawn shapes, dtypes, layouts and hazards.

One judge for all: the float64 reference, within what plain torch errs on the same input. The end of the test run prints
how many cases each backend ran and its worst error in units of torch's own, or why it did not run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agreement.ops import OPS, drawn_cases_agree
from agreement.paths import paths

from python_tests.helpers import testing

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import rungs

pytestmark = pytest.mark.gpu_ladder


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"agreement, {name}")) for name in paths()]
)
def backend(request):
    """The name of a path, why it cannot run here, and if it can the function that runs a case on it."""
    path = paths()[request.param]
    if reason := path.why_not():
        yield request.param, reason, None
        return
    with path.start() as run:
        yield request.param, "", run


@pytest.mark.parametrize("op", OPS)
@pytest.mark.timeout(rungs.SECONDS)
def test_agreement(op, backend, record_property):
    name, reason, run = backend
    path = paths()[name]

    def row(text: str) -> None:
        record_property("ran", f"agreement  {op:<20} {name:<22} {text}")

    if not name.startswith(tuple(OPS[op].rows())):
        row("not run: this op has no such kernel")
        pytest.skip(f"{op} has no such kernel")
    if run is None:
        row(f"not run: {reason}")
        (rungs.cannot_run if path.emulates else pytest.skip)(reason)
    count, worst = drawn_cases_agree(op, path.examples, path.largest, run)
    if op == "views":
        row(f"{count:>5} cases, worst error {worst / testing.FACTOR:.2f} of 1/255 (uint8) or 1e-5 (float32)")
    else:
        row(f"{count:>5} cases, worst error {worst:.2f} of {testing.FACTOR:g} times torch's own")
