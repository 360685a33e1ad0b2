"""P1-f: a term of the loss that limits alignment."""

from __future__ import annotations

from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, spread

WEIGHTS = (-0.5, -0.1, 0.0, 0.1, 0.5)
"""Below 0 views are pushed apart (alignment is penalized), above 0 they are pulled together."""


def run(context: ExperimentContext) -> Result:
    """Trains both encoders of every pair with the term; memkern's `alignment_loss` is the term."""
    weights = WEIGHTS if context.preset.name != "tiny" else (-0.5, 0.0, 0.5)
    mem: dict[float, list[float]] = {}
    accuracy: dict[float, list[float]] = {}
    for weight in weights:
        recipe = context.recipe(alignment=weight)
        for seed in context.seeds:
            measured = context.measure(seed, recipe)
            mem.setdefault(weight, []).append(measured.mean("candidate"))
            accuracy.setdefault(weight, []).append(context.accuracy(context.encoder(seed, "f", recipe), seed))
    rows = [
        {
            "lambda": weight,
            "sslmem": center(mem[weight]),
            "sslmem_std": spread(mem[weight]),
            "accuracy": center(accuracy[weight]),
            "accuracy_std": spread(accuracy[weight]),
        }
        for weight in weights
    ]
    least = min(weights)
    effects = {
        name: [plain - limited for plain, limited in zip(values[0.0], values[least], strict=True)]
        for name, values in (("a penalty lowers memorization", mem), ("a penalty lowers accuracy", accuracy))
    }
    figure = lines({"SSLMem of candidates": [row["sslmem"] for row in rows]}, weights, xlabel="weight of the alignment",
                   ylabel="mean SSLMem", title="A term on alignment")  # fmt: skip
    note = (
        "The released script's term has the sign that rewards alignment, against the text; both signs are measured. "
        "The method's own loss keeps its weight, so a large weight changes the size of all gradients, too."
    )
    return Result(list(rows), effects, figure, [note])


EXPERIMENT = Experiment(
    id="p1-f",
    covers=("P1-f",),
    title="Memorization and accuracy when alignment is penalized or rewarded",
    inputs="pairs f, g for every weight of the term",
    columns=("lambda", "sslmem", "sslmem_std", "accuracy", "accuracy_std"),
    findings={
        "a penalty lowers memorization": "Penalizing alignment lowers the mean SSLMem of the candidates.",
        "a penalty lowers accuracy": "It lowers the accuracy of a linear probe, too.",
    },
    published=[],
    run=run,
)
