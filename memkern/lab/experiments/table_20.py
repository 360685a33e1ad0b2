"""Table 20: what the self-supervised and the supervised encoders are good for."""

from __future__ import annotations

from memkern.lab import probe
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread

_PAPER = {
    "simclr": {"cifar100": 65.4, "cifar10": 57.6, "stl10": 48.7, "svhn": 59.2},
    "supervised": {"cifar100": 66.1, "cifar10": 56.7, "stl10": 46.1, "svhn": 58.6},
}


def run(context: ExperimentContext) -> Result:
    """Linear probe and nearest neighbors of f on every task, features extracted once."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    tasks = (context.preset.data, *context.preset.others)
    for seed in context.seeds:
        for method in _PAPER:
            encoder = context.encoder(seed, "f", context.recipe(method))
            for task in tasks:
                features = context.features(encoder, seed, task)
                both = probe.linear_probe(features), probe.nearest_neighbors(features)
                found.setdefault((method, task), []).append(both)
    rows: list[Row] = [
        {
            "method": method,
            "task": task,
            "linear_probe": center(value[0] for value in values),
            "std": spread(value[0] for value in values),
            "nearest_neighbors": center(value[1] for value in values),
        }
        for (method, task), values in found.items()
    ]
    effects = [
        center(found["simclr", task][i][0] - found["supervised", task][i][0] for task in tasks[1:])
        for i in range(len(context.seeds))
    ]
    return Result(rows, {"self-supervised transfers better": effects})


EXPERIMENT = Experiment(
    id="table-20",
    covers=("Table 20",),
    title="Accuracy of a linear probe and of nearest neighbors, SimCLR and supervised",
    inputs="f of every seed, trained with SimCLR and with labels; labeled images of all tasks",
    columns=("method", "task", "linear_probe", "std", "nearest_neighbors"),
    findings={"self-supervised transfers better": "On other data SimCLR's features are better than supervised ones."},
    published=[
        {"method": method, "task": task, "linear_probe": value}
        for method, values in _PAPER.items()
        for task, value in values.items()
    ],
    run=run,
)
