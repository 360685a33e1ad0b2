"""Figure 1a: the distribution of UnitMem on several data sets."""

from __future__ import annotations

import memkern
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import new_figure
from memkern.lab.experiments._statistics import center, spread


def run(context: ExperimentContext) -> Result:
    """UnitMem of the last convolution of an encoder trained on each data set, over its training images."""
    tap, recipe = CONV_TAPS[-1], context.recipe()
    values: dict[str, list[list[float]]] = {}
    for seed in context.seeds:
        for name in (context.preset.data, *context.preset.others):
            encoder, ids = context.encoder(seed, data=name), context.split(seed, name).f
            reading = context.read(encoder, ids, recipe.views, data=name)
            values.setdefault(name, []).append(memkern.unitmem(reading.unit_means[tap]).tolist())
    rows: list[Row] = [
        {
            "data": name,
            "unitmem": center(center(units) for units in seeds),
            "std": spread(center(units) for units in seeds),
            "above_half": center(center(float(unit > 0.5) for unit in units) for units in seeds),
        }
        for name, seeds in values.items()
    ]
    simple = context.preset.others[-1]
    effects = [center(values[context.preset.data][i]) - center(values[simple][i]) for i in range(len(context.seeds))]
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, seeds in values.items():
        axes.hist([unit for units in seeds for unit in units], bins=40, histtype="step", density=True, label=name)
    axes.set_xlabel(f"UnitMem ({tap})")
    axes.legend()
    return Result(rows, {"the simplest data has the least": effects}, figure, [f"The simplest data: {simple}."])


EXPERIMENT = Experiment(
    id="figure-1a",
    covers=("Figure 1a",),
    title="UnitMem of the last convolution of encoders trained on different data",
    inputs="f of every seed and data set; its training images",
    columns=("data", "unitmem", "std", "above_half"),
    findings={"the simplest data has the least": "The simplest data set (SVHN in the paper) has the lowest UnitMem."},
    published=[],
    run=run,
)
