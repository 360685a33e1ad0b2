"""P1-d: do different methods memorize the same points, and supervised training others?"""

from __future__ import annotations

import itertools

import torch

from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, kendall, order, overlap, spread
from memkern.lab.experiments.p1_c import recipes


def run(context: ExperimentContext) -> Result:
    """Overlap of the top points and Kendall's tau of the rankings, for every pair of methods."""
    chosen = {**recipes(context), "supervised resnet9": context.recipe("supervised")}
    overlaps: dict[tuple[str, str], list[float]] = {}
    taus: dict[tuple[str, str], list[float]] = {}
    for seed in context.seeds:
        scores = {}
        for name, recipe in chosen.items():
            measured = context.measure(seed, recipe)
            scores[name] = measured.of("candidate")
        most = min(context.preset.points(100), len(next(iter(scores.values()))) // 3)
        for a, b in itertools.combinations(chosen, 2):
            overlaps.setdefault((a, b), []).append(overlap(order(scores[a])[:most], order(scores[b])[:most]))
            taus.setdefault((a, b), []).append(kendall(scores[a], scores[b])[0])
    rows: list[Row] = [
        {"a": a, "b": b, "overlap": center(values), "overlap_std": spread(values), "tau": center(taus[a, b])}
        for (a, b), values in overlaps.items()
    ]
    own = [pair for pair in taus if "supervised resnet9" not in pair]
    contrast = [pair for pair in taus if "supervised resnet9" in pair]
    within = [center(taus[pair][place] for pair in own) for place in range(len(context.seeds))]
    across = [center(taus[pair][place] for pair in contrast) for place in range(len(context.seeds))]
    effects = {
        "methods agree": within,
        "methods agree more than with supervised": torch.tensor(within).sub(torch.tensor(across)).tolist(),
    }
    return Result(rows, effects)


EXPERIMENT = Experiment(
    id="p1-d",
    covers=("P1-d",),
    title="Overlap and rank correlation of the memorized points of two methods",
    inputs="pairs f, g for every method and for supervised training; candidates",
    columns=("a", "b", "overlap", "overlap_std", "tau"),
    findings={
        "methods agree": "Self-supervised methods rank the points alike (mean tau over their pairs).",
        "methods agree more than with supervised": "They agree more among themselves than with supervised training.",
    },
    published=[],
    run=run,
)
