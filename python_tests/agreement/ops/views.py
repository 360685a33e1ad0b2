"""views in the suites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import hypothesis.strategies as st
import torch
from agreement.cases import Case, in_memory, values
from agreement.op import FLAG, Drawn, Judged, Op, Results
from torch import Tensor

import memkern
from memkern import reference
from memkern.transforms import PRESETS
from python_tests.helpers import testing


def _draw(draw: st.DrawFn, largest: int) -> Drawn:
    # torch 2.14 fails on uint8 images of a few pixels
    side = st.integers(4, 12 if largest <= 200 else 40)
    shape = draw(st.integers(1, 2)), draw(st.sampled_from((1, 3))), draw(side), draw(side)
    options = {"pixel": draw(st.sampled_from(("uint8", "float32"))), "size": (draw(side), draw(side))}
    options |= {"antialias": draw(FLAG), "channels_last": draw(FLAG)}
    options["preset"] = draw(st.sampled_from(("weak", "simclr", "byol-2", "independent", "dino-local")))
    return Drawn(shape, options, ("float32",))


def _inputs(case: Case) -> Results:
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


def _call(case: Case, inputs: Results, backend: str) -> Results:
    images, params = inputs
    made = memkern.views(
        images, params=params, transform=_spec(case), size=case.options["size"], backend=backend,
        channels_last=case.options["channels_last"],
    )  # fmt: skip
    return (made,)


def _judge(case: Case, inputs: Results, results: Results) -> Iterator[Judged]:
    """Within 1/255 of torchvision for uint8 images, 1e-5 for float32 ones; both doubled by the normalization."""
    images, params = inputs
    want = reference.views([images], params, size=case.options["size"], antialias=case.options["antialias"],
                           blur_size=3).double()  # fmt: skip
    allowed = 2.001 / 255 if images.dtype == torch.uint8 else 2e-5
    yield "views", results[0], testing.Expected(want, torch.full_like(want, allowed)), torch.float32


OP = Op(_draw, _inputs, _call, _judge, None, ("views", "TABLE"))
