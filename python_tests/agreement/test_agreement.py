"""Every op on every backend that this machine can run, on drawn shapes, dtypes, layouts and hazards.

One judge for all: the float64 reference, within what plain torch errs on the same input. The end of the test run prints
how many cases each backend ran and its worst error in units of torch's own, or why it did not run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import pytest
from agreement.cases import HAZARDS, Case
from agreement.ops import OPS, worst_error
from agreement.paths import paths
from hypothesis import strategies as st

from python_tests.helpers import testing

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu_triton"))

import rungs

pytestmark = pytest.mark.gpu_ladder

DTYPES = ("float32", "float64", "bfloat16", "float16")
WIDE = ("float32", "float64")
# A gradient is 0/0 next to a zero or an infinite vector, and one of nearly equal views is only as good as its distance.
SMOOTH = ("tied points", "near views 1e-3", "parallel views", "equal views", "rectified", "large", "small")


@st.composite
def cases(draw: st.DrawFn, op: str, largest: int) -> Case:
    """What an op may be asked."""
    last = st.integers(1, 40) | st.sampled_from(
        [size for size in (64, 127, 128, 200, 1025, largest) if size <= largest]
    )
    points, small, flag = st.integers(1, 4), st.integers(1, 5), st.booleans()
    views = st.integers(2, 6) | st.sampled_from([9, 10, 17] if largest > 200 else [9])
    dtypes, hazards, options = DTYPES, tuple(HAZARDS), {}
    if op in ("alignment", "alignment_backward"):
        shape = (draw(points), draw(views), draw(last))
        options = {"pairs": draw(st.sampled_from(("all", "anchor"))), "normalize": draw(flag)}
        hazards = SMOOTH if op == "alignment_backward" else hazards
    elif op == "layer_stats":
        shape = (draw(points), draw(views), draw(small), draw(small), draw(last))
        options = {"pairs": draw(st.sampled_from(("all", "anchor"))), "normalize": draw(flag)}
        options["unit_dim"] = draw(st.integers(2, 4))
    elif op == "pointwise_stats":
        shape, dtypes = (draw(points), draw(views), draw(small), draw(small), draw(last)), ("float32",)
        # A batch norm moves nearly equal views to where float32 cannot tell them apart.
        hazards = ("tied points", "near views 1e-3", "equal views", "dead", "rectified")
        options = {"pairs": draw(st.sampled_from(("all", "anchor"))), "normalize": draw(flag)}
        options["unit_dim"] = draw(st.integers(2, 4))
        options["layers"] = draw(
            st.sampled_from((["batch_norm"], ["relu"], ["gelu"], ["batch_norm", "relu"], ["relu", "batch_norm"]))
        )
    elif op in ("unit_means", "selectivity"):
        space = draw(st.lists(small, max_size=3))
        shape = (draw(points if space else st.integers(1, 40)), draw(small), *space, draw(last))
        options = {"activation": draw(st.sampled_from(("raw", "relu", "abs")))}
        options["unit_dim"] = draw(st.integers(1, len(shape) - 1))
    elif op == "views":
        # torch 2.14 fails on uint8 images of a few pixels
        side = st.integers(4, 12 if largest <= 200 else 40)
        shape, dtypes = (draw(st.integers(1, 2)), draw(st.sampled_from((1, 3))), draw(side), draw(side)), ("float32",)
        options = {"pixel": draw(st.sampled_from(("uint8", "float32"))), "size": (draw(side), draw(side))}
        options |= {"antialias": draw(flag), "channels_last": draw(flag)}
        options["preset"] = draw(st.sampled_from(("weak", "simclr", "byol-2", "independent", "dino-local")))
    else:
        shape, dtypes = (draw(st.integers(2, 60)), draw(last)), WIDE
        options = {"classes": draw(st.integers(1, 5))} if op == "class_sums" else {}
    return Case(
        op, shape, draw(st.sampled_from(dtypes)), draw(st.sampled_from(tuple(testing.LAYOUTS))),
        tuple(draw(st.lists(st.sampled_from(hazards), max_size=2, unique=True))), options, draw(st.integers(0, 2**20)),
    )  # fmt: skip


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

    if not name.startswith(OPS[op].backends):
        row("not run: this op has no such kernel")
        pytest.skip(f"{op} has no such kernel")
    if run is None:
        row(f"not run: {reason}")
        (rungs.cannot_run if path.emulates else pytest.skip)(reason)
    count, worst = 0, 0.0

    @hypothesis.settings(max_examples=path.examples)
    @hypothesis.given(case=cases(op, path.largest))
    def check(case: Case) -> None:
        nonlocal count, worst
        error = worst_error(case, OPS[op].inputs(case), run(case))
        count, worst = count + 1, max(worst, error)

    check()
    if op == "views":
        row(f"{count:>5} cases, worst error {worst / testing.FACTOR:.2f} of 1/255 (uint8) or 1e-5 (float32)")
    else:
        row(f"{count:>5} cases, worst error {worst:.2f} of {testing.FACTOR:g} times torch's own")
