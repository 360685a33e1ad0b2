"""Table 19: LayerMem hardly depends on how many points it is measured on."""

from __future__ import annotations

import torch

from memkern.lab.encoders.resnet9 import TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._statistics import center, spread

_PAPER = {
    "conv1": (0.092, 0.093, 0.089, 0.091),
    "conv2-0": (0.122, 0.124, 0.122, 0.121),
    "conv2-1": (0.150, 0.154, 0.151, 0.152),
    "conv2-2": (0.181, 0.182, 0.180, 0.181),
    "Res2": (0.184, 0.185, 0.183, 0.184),
    "conv3": (0.213, 0.213, 0.212, 0.212),
    "conv4-0": (0.246, 0.249, 0.247, 0.245),
    "conv4-1": (0.277, 0.281, 0.277, 0.276),
    "conv4-2": (0.309, 0.314, 0.310, 0.307),
    "Res6": (0.310, 0.316, 0.313, 0.309),
}
_COUNTS = (100, 500, 1000, 5000)
_DRAWS = 3


def run(context: ExperimentContext) -> Result:
    """LayerMem of three random subsets of every size."""
    n = len(context.split(context.seeds[0]).candidate)
    counts = [min(n, count) for count in _COUNTS] if context.preset.name == "paper" else [n // 4, n // 2, 3 * n // 4, n]
    values: dict[tuple[str, int], list[list[float]]] = {}  # per seed, three draws
    for seed in context.seeds:
        measured = context.measure(seed)
        generator = torch.Generator().manual_seed(seed)
        subsets = {count: [torch.randperm(n, generator=generator)[:count] for _ in range(_DRAWS)] for count in counts}
        for tap in TAPS:
            score = measured.ratios(tap)
            for count, draws in subsets.items():
                values.setdefault((tap, count), []).append([float(score[draw].mean()) for draw in draws])
    rows = [
        {
            "layer": tap,
            "points": count,
            "layermem": center(center(draws) for draws in seeds),
            "std_of_draws": center(spread(draws) for draws in seeds),
        }
        for (tap, count), seeds in values.items()
    ]
    effects = []
    for place in range(len(context.seeds)):
        full = {tap: center(values[tap, counts[-1]][place]) for tap in TAPS}
        moved = center(abs(center(values[tap, counts[0]][place]) - full[tap]) for tap in TAPS)
        effects.append((max(full.values()) - min(full.values())) - moved)
    return Result(rows, {"subsets move it less than layers do": effects})


EXPERIMENT = Experiment(
    id="table-19",
    covers=("Table 19",),
    title="LayerMem measured on few and on many points",
    inputs="pairs f, g; candidates",
    columns=("layer", "points", "layermem", "std_of_draws"),
    findings={
        "subsets move it less than layers do": "The smallest subsets move LayerMem by less than the layers differ."
    },
    published=[
        {"layer": tap, "points": count, "layermem": value}
        for tap, values in _PAPER.items()
        for count, value in zip(_COUNTS, values, strict=True)
    ],
    run=run,
)
