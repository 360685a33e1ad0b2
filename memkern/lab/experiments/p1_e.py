"""P1-e: training without the most memorized points, against training without random ones."""

from __future__ import annotations

import torch

from memkern.lab.encoder_pairs import training_seed
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, order, spread
from memkern.scores import removal_score


def run(context: ExperimentContext) -> Result:
    """Ranks the candidates with the released removal score, removes some, trains again, and probes."""
    tasks = (context.preset.data, *context.preset.others)
    most = len(context.split(context.seeds[0]).candidate)
    counts = [500, 1000, 2000, 4000] if context.preset.name == "paper" else [most // 3, 2 * most // 3]
    counts = counts[:1] if context.preset.name == "tiny" else counts
    found: dict[tuple[int, str, str], list[float]] = {}
    for seed in context.seeds:
        measured, split = context.measure(seed), context.split(seed)
        place = measured.rows("candidate")
        score = removal_score(measured.f.alignment["output"][place], measured.g.alignment["output"][place])
        shuffled = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed))
        for task in tasks:
            found.setdefault((0, "none", task), []).append(context.accuracy(context.encoder(seed), seed, task))
        for count in counts:
            for strategy, ranked in (("memorized", order(score)), ("random", shuffled)):
                kept = measured.ids[place][ranked[count:].sort().values]
                encoder = context.trained(torch.cat([split.shared, kept]), training_seed(seed, "f"))
                for task in tasks:
                    found.setdefault((count, strategy, task), []).append(context.accuracy(encoder, seed, task))
    rows: list[Row] = [
        {"removed": count, "strategy": strategy, "task": task, "accuracy": center(values), "std": spread(values)}
        for (count, strategy, task), values in found.items()
    ]
    effects = [
        center(
            found[count, "random", task][i] - found[count, "memorized", task][i] for count in counts for task in tasks
        )
        for i in range(len(context.seeds))
    ]
    note = "The same number of epochs means fewer steps where points were removed, equally for both strategies."
    return Result(rows, {"memorized points are missed more": effects}, None, [note])


EXPERIMENT = Experiment(
    id="p1-e",
    covers=("P1-e",),
    title="Accuracy after removing memorized or random points and training again",
    inputs="pairs f, g; encoders trained on what is left; labeled images of the downstream tasks",
    columns=("removed", "strategy", "task", "accuracy", "std"),
    findings={"memorized points are missed more": "Removing memorized points costs more accuracy than random ones."},
    published=[],
    run=run,
)
