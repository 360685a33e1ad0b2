"""Figure 4 and P1-j: UnitMem and SSLMem over the training."""

from __future__ import annotations

from torch import Tensor

import memkern
from memkern.lab.encoder_pairs import training_seed
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, slope
from memkern.lab.training.recipe import Recipe
from memkern.lab.training.trainer import Training
from memkern.scores import sslmem_score

TAP = CONV_TAPS[-1]


def run(context: ExperimentContext) -> Result:
    """Measures f and g every few epochs on the candidates, with the same views each time."""
    recipe = context.recipe()
    every = {"tiny": 1, "small": 25, "paper": 5}[context.preset.name]
    unitmem: dict[int, list[float]] = {}
    sslmem: dict[int, list[float]] = {}
    for seed in context.seeds:
        curves = {role: _watched(context, seed, role, recipe, every) for role in "fg"}
        for epoch in curves["f"]:
            unitmem.setdefault(epoch, []).append(curves["f"][epoch][0])
            score = sslmem_score(curves["f"][epoch][1], curves["g"][epoch][1])
            sslmem.setdefault(epoch, []).append(float(score))
    rows: list[Row] = [
        {"epoch": epoch, "unitmem": center(values), "sslmem": center(sslmem[epoch])}
        for epoch, values in sorted(unitmem.items())
    ]
    epochs = sorted(unitmem)
    effects = {
        name: [slope([values[epoch][place] for epoch in epochs]) for place in range(len(context.seeds))]
        for name, values in (("UnitMem rises during training", unitmem), ("SSLMem rises during training", sslmem))
    }
    series = {"UnitMem of the last convolution": [row["unitmem"] for row in rows]}
    figure = lines(series, epochs, xlabel="epoch", ylabel="mean UnitMem", title="UnitMem over training")
    return Result(
        rows, effects, figure, ["UnitMem is measured on the candidates; effects are Kendall's tau with the epoch."]
    )


def _watched(
    context: ExperimentContext, seed: int, role: str, recipe: Recipe, every: int
) -> dict[int, tuple[float, Tensor]]:
    """Trains f or g and returns, by epoch, mean UnitMem and mean alignment (a float64 scalar) of the candidates."""
    split, data = context.split(seed), context.data()
    curve: dict[int, tuple[float, Tensor]] = {}

    def watch(training: Training) -> None:
        if training.epoch % every == 0 or training.epoch == recipe.epochs:
            reading = context.read(training.encoder(), split.candidate, recipe.views)
            mem = float(memkern.unitmem(reading.unit_means[TAP]).mean())
            curve[training.epoch] = mem, reading.alignment["output"].mean().double()

    ids = split.f if role == "f" else split.g
    context.encoders.training(data, ids, training_seed(seed, role), recipe, metrics=watch)
    return curve


EXPERIMENT = Experiment(
    id="figure-4",
    covers=("Figure 4", "P1-j"),
    title="UnitMem of the last convolution and SSLMem of the candidates over training",
    inputs="the training of f and g itself; candidates",
    columns=("epoch", "unitmem", "sslmem"),
    findings={
        "UnitMem rises during training": "UnitMem of the last convolution rises with the epochs.",
        "SSLMem rises during training": "The mean SSLMem of the candidates rises with the epochs.",
    },
    published=[],
    run=run,
)
