"""Figure 4 and P1-j: UnitMem and SSLMem over the training."""

from __future__ import annotations

import memkern
from memkern.lab.encoder_pairs import training_seed
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._common import center, lines, slope
from memkern.lab.experiments._context import Lab
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.measure import read
from memkern.lab.training.recipe import Recipe
from memkern.lab.training.trainer import Training

TAP = CONV_TAPS[-1]


def run(lab: Lab) -> Result:
    """Measures f and g every few epochs on the candidates, with the same views each time."""
    recipe = lab.recipe()
    every = {"tiny": 1, "small": 25, "paper": 5}[lab.preset.name]
    unitmem: dict[int, list[float]] = {}
    sslmem: dict[int, list[float]] = {}
    for seed in lab.seeds:
        curves = {role: _watched(lab, seed, role, recipe, every) for role in "fg"}
        for epoch in curves["f"]:
            unitmem.setdefault(epoch, []).append(curves["f"][epoch][0])
            sslmem.setdefault(epoch, []).append(curves["g"][epoch][1] - curves["f"][epoch][1])
    rows: list[Row] = [
        {"epoch": epoch, "unitmem": center(values), "sslmem": center(sslmem[epoch])}
        for epoch, values in sorted(unitmem.items())
    ]
    epochs = sorted(unitmem)
    effects = {
        name: [slope([values[epoch][place] for epoch in epochs]) for place in range(len(lab.seeds))]
        for name, values in (("UnitMem rises during training", unitmem), ("SSLMem rises during training", sslmem))
    }
    series = {"UnitMem of the last convolution": [row["unitmem"] for row in rows]}
    figure = lines(series, epochs, xlabel="epoch", ylabel="mean UnitMem", title="UnitMem over training")
    return Result(
        rows, effects, figure, ["UnitMem is measured on the candidates; effects are Kendall's tau with the epoch."]
    )


def _watched(lab: Lab, seed: int, role: str, recipe: Recipe, every: int) -> dict[int, tuple[float, float]]:
    """Trains f or g and returns, by epoch, mean UnitMem and mean alignment of the candidates."""
    split, data = lab.split(seed), lab.data()
    curve: dict[int, tuple[float, float]] = {}

    def watch(training: Training) -> None:
        if training.epoch % every == 0 or training.epoch == recipe.epochs:
            options = {"n_views": lab.preset.n_views, "seed": 0}
            reading = read(training.encoder(), data, split.candidate, recipe.views, **options)  # type: ignore[arg-type]
            mem = float(memkern.unitmem(reading.unit_means[TAP]).mean())
            curve[training.epoch] = mem, float(reading.alignment["output"].mean())

    ids = split.f if role == "f" else split.g
    lab.training(data, ids, training_seed(seed, role), recipe, metrics=watch)
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
