"""P1-c: memorization across methods and encoders."""

from __future__ import annotations

from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread
from memkern.lab.training.recipe import Recipe


def recipes(context: ExperimentContext) -> dict[str, Recipe]:
    """Lists the method and encoder pairs that are compared."""
    vit = context.preset.vit
    return {
        "simclr resnet9": context.recipe("simclr"),
        "vicreg resnet9": context.recipe("vicreg"),
        "simsiam resnet9": context.recipe("simsiam"),
        "byol resnet9": context.recipe("byol"),
        f"dino {vit}": context.recipe("dino", vit),
        f"mae {vit}": context.recipe("mae"),
    }


def run(context: ExperimentContext) -> Result:
    """Mean SSLMem of candidates against extra images, and a linear probe of f."""
    rows: list[Row] = []
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for name, recipe in recipes(context).items():
        mem, outside, accuracy = [], [], []
        for seed in context.seeds:
            measured = context.measure(seed, recipe)
            mem.append(measured.mean("candidate"))
            outside.append(measured.mean("extra"))
            accuracy.append(context.accuracy(context.encoder(seed, "f", recipe), seed))
        rows.append(
            {
                "data": context.preset.data,
                "encoder": recipe.encoder,
                "method": recipe.method,
                "accuracy": center(accuracy),
                "accuracy_std": spread(accuracy),
                "sslmem": center(mem),
                "sslmem_std": spread(mem),
                "sslmem_extra": center(outside),
            }
        )
        effects[f"{name.split()[0]} memorizes"] = [a - b for a, b in zip(mem, outside, strict=True)]
    return Result(rows, effects, None, ["Effects are the means of candidates minus those of extra images."])


EXPERIMENT = Experiment(
    id="p1-c",
    covers=("P1-c",),
    title="Mean memorization and probe accuracy of six methods",
    inputs="pairs f, g for every method",
    columns=("data", "encoder", "method", "accuracy", "accuracy_std", "sslmem", "sslmem_std", "sslmem_extra"),
    findings={
        f"{name} memorizes": f"Trained with {name}, candidates have a higher SSLMem than extra images."
        for name in ("simclr", "vicreg", "simsiam", "byol", "dino", "mae")
    },
    published=[],
    run=run,
)
