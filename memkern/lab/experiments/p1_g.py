"""P1-g and Figure 1c: training with differential privacy."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread
from memkern.lab.training import checkpoint
from memkern.lab.training.recipe import Recipe


def run(context: ExperimentContext) -> Result:
    """MAE on a transformer, which has no batch norm: without privacy, then with two budgets."""
    budgets: tuple[float | None, ...] = (None, 20.0, 8.0) if context.preset.name != "tiny" else (None, 8.0)
    mem: dict[float | None, list[float]] = {}
    units: dict[float | None, list[float]] = {}
    accuracy: dict[float | None, list[float]] = {}
    spent: dict[float | None, str] = {}
    for budget in budgets:
        recipe = context.recipe("mae", precision="fp32", epsilon=budget, delta=1e-5)
        if context.preset.name == "small":
            # A step of DP-SGD costs three others, and the noise that a budget asks for grows with the number of steps.
            recipe = replace(recipe, epochs=100)
        for seed in context.seeds:
            measured = context.measure(seed, recipe)
            mem.setdefault(budget, []).append(measured.mean("candidate"))
            last = measured.layers[-2].name  # the MLP of the last block; the stream after it is the last layer
            units.setdefault(budget, []).append(float(measured[last].unitmem.mean()))
            accuracy.setdefault(budget, []).append(context.accuracy(context.encoder(seed, "f", recipe), seed))
        spent[budget] = _spent(context, recipe)
    rows: list[Row] = [
        {
            "epsilon": "inf" if budget is None else str(budget),
            "epsilon_spent": spent[budget],
            "sslmem": center(mem[budget]),
            "sslmem_std": spread(mem[budget]),
            "unitmem_last": center(units[budget]),
            "accuracy": center(accuracy[budget]),
            "accuracy_std": spread(accuracy[budget]),
        }
        for budget in budgets
    ]
    least = budgets[-1]
    effects = {
        name: [plain - private for plain, private in zip(values[None], values[least], strict=True)]
        for name, values in (
            ("privacy lowers SSLMem", mem),
            ("privacy lowers UnitMem", units),
            ("privacy lowers accuracy", accuracy),
        )
    }
    note = (
        f"All trained for {recipe.epochs} epochs. delta 1e-5, clipping norm 1, epsilon by the accountant of Renyi "
        "differential privacy. With few images the noise that a budget asks for is large beside the clipped gradients: "
        "expect little learning at small sizes. The paper states neither delta nor clipping norm nor noise."
    )
    return Result(rows, effects, None, [note])


def _spent(context: ExperimentContext, recipe: Recipe) -> str:
    """The largest epsilon that the trainings of a recipe report, from the notes beside their weights."""
    if recipe.epsilon is None:
        return "inf"
    wanted = checkpoint.as_json({"recipe": asdict(recipe), "data": context.data().name})
    # names with a leading dot are files that another process is writing
    notes = [json.loads(path.read_text()) for path in (context.cache / "encoders").glob("[!.]*.json")]
    found = [note["epsilon"] for note in notes if {key: note[key] for key in wanted} == wanted]
    return f"{max(found):.2f}" if found else "-"


EXPERIMENT = Experiment(
    id="p1-g",
    covers=("P1-g", "Figure 1c"),
    title="Memorization and accuracy of MAE trained with DP-SGD",
    inputs="pairs f, g trained with MAE without and with privacy budgets",
    columns=("epsilon", "epsilon_spent", "sslmem", "sslmem_std", "unitmem_last", "accuracy", "accuracy_std"),
    findings={
        "privacy lowers SSLMem": "The smallest budget has a lower mean SSLMem than training without privacy.",
        "privacy lowers UnitMem": "It has a lower mean UnitMem in the last MLP.",
        "privacy lowers accuracy": "It has a lower probe accuracy.",
    },
    published=[],
    run=run,
)
