"""Table 3: do neighboring layers memorize the same points?"""

from __future__ import annotations

import torch

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._statistics import center, kendall, order, overlap, spread

_PAPER = {
    "1-2": (79, 0.607), "2-3": (70, 0.562), "3-4": (82, 0.665), "4-5": (68, 0.557), "5-6": (72, 0.559),
    "6-7": (84, 0.657), "7-8": (94, 0.837), "1-3": (52, 0.505), "1-4": (47, 0.412), "1-5": (24, 0.240),
    "1-6": (19, 0.181), "1-7": (18, 0.167), "1-8": (16, 0.104), "2-8": (27, 0.247), "3-8": (37, 0.310),
    "4-8": (45, 0.396), "5-8": (58, 0.527), "6-8": (79, 0.644),
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """Overlap of the top points of two layers, and Kendall's tau-b over the union of both tops."""
    found: dict[str, list[tuple[float, float, float, int]]] = {}
    for seed in context.seeds:
        measured = context.measure(seed)
        scores = [measured.ratios(tap) for tap in CONV_TAPS]
        most = min(context.preset.points(100), len(scores[0]) // 3)
        tops = [order(score)[:most] for score in scores]
        for i in range(8):
            for j in range(i + 1, 8):
                union = torch.cat([tops[i], tops[j]]).unique()
                tau, p = kendall(scores[i][union], scores[j][union])
                whole = kendall(scores[i], scores[j])[0]
                pair = (overlap(tops[i], tops[j]), tau, whole, len(union))
                found.setdefault(f"{i + 1}-{j + 1}", []).append(pair)
                del p
    rows = [
        {
            "layers": pair,
            "overlap": center(value[0] for value in values),
            "overlap_std": spread(value[0] for value in values),
            "tau_union": center(value[1] for value in values),
            "n_union": center(value[3] for value in values),
            "tau_all": center(value[2] for value in values),
        }
        for pair, values in found.items()
    ]
    near, far = [f"{i}-{i + 1}" for i in range(1, 8)], ["1-5", "1-6", "1-7", "1-8", "2-8", "3-8"]
    effects = {
        "neighbors agree more than distant layers": [
            center(found[pair][place][0] for pair in near) - center(found[pair][place][0] for pair in far)
            for place in range(len(context.seeds))
        ],
        "neighbors' rankings agree": [
            center(found[pair][place][2] for pair in near) for place in range(len(context.seeds))
        ],
    }
    note = (
        "The paper does not say which points enter tau, and its p-values fit no single choice; `tau_union` is over the "
        "union of both tops, `tau_all` over all candidates. Points in the union are selected for a high score in one "
        "layer, which pulls tau down."
    )
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="table-3",
    covers=("Table 3",),
    title="Overlap and rank correlation of the most memorized points of two layers",
    inputs="pairs f, g; candidates",
    columns=("layers", "overlap", "overlap_std", "tau_union", "n_union", "tau_all"),
    findings={
        "neighbors agree more than distant layers": "The tops of neighboring layers overlap more than those far apart.",
        "neighbors' rankings agree": "The rankings of neighboring layers are positively correlated.",
    },
    published=[{"layers": pair, "overlap": value[0], "tau": value[1]} for pair, value in _PAPER.items()],
    run=run,
)
