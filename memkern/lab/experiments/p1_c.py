"""P1-c: memorization across methods and encoders."""

from __future__ import annotations

from memkern.lab.experiments._common import center, spread
from memkern.lab.experiments._context import Lab
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.training.recipe import Recipe


def recipes(lab: Lab) -> dict[str, Recipe]:
    """The method and encoder pairs that are compared."""
    vit = lab.preset.vit
    return {
        "simclr resnet9": lab.recipe("simclr"),
        "vicreg resnet9": lab.recipe("vicreg"),
        "simsiam resnet9": lab.recipe("simsiam"),
        "byol resnet9": lab.recipe("byol"),
        f"dino {vit}": lab.recipe("dino", vit),
        f"mae {vit}": lab.recipe("mae"),
    }


def run(lab: Lab) -> Result:
    """Mean SSLMem of candidates against extra images, and a linear probe of f."""
    rows: list[Row] = []
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for name, recipe in recipes(lab).items():
        mem, outside, accuracy = [], [], []
        for seed in lab.seeds:
            audit = lab.audit(seed, recipe)
            mem.append(audit.means["candidate"])
            outside.append(audit.means["extra"])
            accuracy.append(lab.accuracy(lab.encoder(seed, "f", recipe), seed))
        rows.append(
            {
                "data": lab.preset.data,
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
