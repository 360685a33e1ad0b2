"""Table 6: pruning the units with the highest UnitMem hurts more than pruning others."""

from __future__ import annotations

import torch

from memkern.audit.interventions.prune import prune_units
from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread

Chosen = dict[str, list[int]]
_SCHEMES = {"per layer 10 %": (0.1, True), "per layer 20 %": (0.2, True), "total 10 %": (0.1, False)}


def run(context: ExperimentContext) -> Result:
    """Prunes whole units, extracts features anew and trains the probe again."""
    tasks = (context.preset.data, *context.preset.others)
    trials = 1 if context.preset.name == "tiny" else 10 if context.preset.name == "paper" else 3
    accuracy: dict[tuple[str, str, str], list[float]] = {}
    for seed in context.seeds:
        encoder, measured = context.encoder(seed), context.measure(seed)
        unitmem = {tap: measured[tap].unitmem for tap in CONV_TAPS}
        for task in tasks:
            accuracy.setdefault(("none", "none", task), []).append(context.accuracy(encoder, seed, task))
        for scheme, (share, per_layer) in _SCHEMES.items():
            for which in ("top", "random", "low"):
                draws = range(trials if which == "random" else 1)
                each: dict[str, list[float]] = {task: [] for task in tasks}
                for draw in draws:
                    units = choose(unitmem, share, which, per_layer, 100 * seed + draw)
                    with prune_units(encoder, units):
                        for task in tasks:
                            each[task].append(context.accuracy(encoder, seed, task))
                for task in tasks:
                    accuracy.setdefault((scheme, which, task), []).append(center(each[task]))
    rows: list[Row] = []
    for (scheme, which, task), values in accuracy.items():
        row = {"pruned": scheme, "units": which, "task": task, "accuracy": center(values), "std": spread(values)}
        rows.append(row)

    def gap(better: str, worse: str) -> list[float]:
        return [
            center(
                accuracy[scheme, better, task][place] - accuracy[scheme, worse, task][place]
                for scheme in _SCHEMES
                for task in tasks
            )
            for place in range(len(context.seeds))
        ]

    effects = {
        "top hurts more than random": gap("random", "top"),
        "top hurts more than low": gap("low", "top"),
        "low hurts less than random": gap("low", "random"),
    }
    note = (
        f"Random units: {trials} draws. Effects are means over the three schemes and the tasks, in points of accuracy."
    )
    return Result(rows, effects, None, [note])


def choose(unitmem: dict[str, torch.Tensor], share: float, which: str, per_layer: bool, seed: int) -> Chosen:
    """Chooses a share of the units: those with the highest or lowest UnitMem, or random ones.

    Args:
        unitmem: Layer -> UnitMem of its units, `[U]`.
        share: Which share of the units of each layer, or of all.
        which: "top", "low" or "random".
        per_layer: Whether each layer gives its share, or the network as a whole.
        seed: Of the random choice.

    Returns:
        Module -> units to prune.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = [(tap, unit) for tap, values in unitmem.items() for unit in range(len(values))]
    score = torch.cat(list(unitmem.values()))
    if which == "random":
        score = torch.rand(len(flat), generator=generator)
    score = -score if which == "low" else score
    chosen: Chosen = {}
    if per_layer:
        start = 0
        for tap, values in unitmem.items():
            count = round(share * len(values))
            best = score[start : start + len(values)].argsort(descending=True, stable=True)[:count]
            chosen[TAPS[tap]] = best.tolist()
            start += len(values)
        return chosen
    for place in score.argsort(descending=True, stable=True)[: round(share * len(flat))].tolist():
        tap, unit = flat[place]
        chosen.setdefault(TAPS[tap], []).append(unit)
    return chosen


_PAPER = {
    ("none", "none"): (70.44, 78.22, 69.12),
    ("per layer 10 %", "top"): (53.04, 63.84, 50.94),
    ("per layer 10 %", "random"): (58.09, 67.04, 55.71),
    ("per layer 10 %", "low"): (62.58, 72.26, 59.26),
    ("per layer 20 %", "top"): (48.30, 55.88, 43.18),
    ("per layer 20 %", "random"): (51.34, 58.01, 46.74),
    ("per layer 20 %", "low"): (54.84, 62.60, 50.02),
    ("total 10 %", "top"): (49.16, 61.28, 47.30),
    ("total 10 %", "random"): (56.77, 67.09, 53.89),
    ("total 10 %", "low"): (62.62, 72.28, 59.30),
}

EXPERIMENT = Experiment(
    id="table-6",
    covers=("Table 6",),
    title="Accuracy of a probe after pruning units with high, random or low UnitMem",
    inputs="f of every seed; labeled images of the downstream tasks",
    columns=("pruned", "units", "task", "accuracy", "std"),
    findings={
        "top hurts more than random": "Pruning units with high UnitMem costs more accuracy than pruning random ones.",
        "top hurts more than low": "It costs more than pruning those with low UnitMem.",
        "low hurts less than random": "Pruning units with low UnitMem costs less than pruning random ones.",
    },
    published=[
        {"pruned": scheme, "units": which, "task": task, "accuracy": value}
        for (scheme, which), values in _PAPER.items()
        for task, value in zip(("cifar10", "svhn", "stl10"), values, strict=True)
    ],
    run=run,
)
