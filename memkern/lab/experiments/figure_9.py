"""Figures 5 and 9: does UnitMem depend on the views it is measured with?"""

from __future__ import annotations

import memkern
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, spread
from memkern.transforms import PRESETS

VIEWS = ("training", "none", "normal", "weak", "strong", "independent", "masking")


def run(context: ExperimentContext) -> Result:
    """Mean UnitMem of every layer of f over its training images, with each set of views."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for seed in context.seeds:
        for method in ("simclr", "supervised"):
            recipe = context.recipe(method)
            encoder, ids = context.encoder(seed, "f", recipe), context.split(seed).f
            for name in VIEWS:
                spec = recipe.views if name in ("training", "none") else PRESETS[name]
                reading = context.read(encoder, ids, spec)
                means = reading.clean_means if name == "none" else reading.unit_means
                for tap in CONV_TAPS:
                    value = float(memkern.unitmem(means[tap]).mean())
                    found.setdefault((method, name, tap), []).append(value)
    rows: list[Row] = [
        {"method": method, "views": name, "layer": tap, "unitmem": center(values), "std": spread(values)}
        for (method, name, tap), values in found.items()
    ]
    last, seeds = CONV_TAPS[-1], range(len(context.seeds))

    def range_of(method: str, place: int) -> float:
        each = [found[method, name, last][place] for name in VIEWS[2:]]
        return max(each) - min(each)

    effects = {
        "without views lower": [
            center(found["simclr", "training", tap][i] - found["simclr", "none", tap][i] for tap in CONV_TAPS)
            for i in seeds
        ],
        "supervised depends more on the views": [range_of("supervised", i) - range_of("simclr", i) for i in seeds],
        "training views give the highest value": [
            found["simclr", "training", last][i]
            - max(found["simclr", name, last][i] for name in ("weak", "independent", "masking"))
            for i in seeds
        ],
    }
    series = {name: [center(found["simclr", name, tap]) for tap in CONV_TAPS] for name in VIEWS}
    figure = lines(
        series, CONV_TAPS, xlabel="layer", ylabel="mean UnitMem", title="UnitMem by the views of the measurement"
    )
    return Result(rows, effects, figure)


EXPERIMENT = Experiment(
    id="figure-9",
    covers=("Figure 5", "Figure 9"),
    title="UnitMem measured with the training's views, with others, and without",
    inputs="f trained with SimCLR and with labels; its training images",
    columns=("method", "views", "layer", "unitmem", "std"),
    findings={
        "without views lower": "UnitMem is lower when measured without views (SimCLR).",
        "supervised depends more on the views": "The views change it more in a supervised encoder (last layer).",
        "training views give the highest value": "The views of the training give the highest value (SimCLR).",
    },
    published=[],
    run=run,
)
