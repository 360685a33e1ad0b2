"""Table 1: LayerMem of every layer of ResNet9, for all, the most and the least memorized candidates."""

from __future__ import annotations

import torch

import memkern
from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, order, slope, spread

_PAPER = {
    "conv1": (0.091, 0.144, 0.003),
    "conv2-0": (0.123, 0.225, 0.012),
    "conv2-1": (0.154, 0.308, 0.022),
    "conv2-2": (0.183, 0.402, 0.031),
    "Res2": (0.185, 0.403, 0.041),
    "conv3": (0.212, 0.479, 0.051),
    "conv4-0": (0.246, 0.599, 0.061),
    "conv4-1": (0.276, 0.697, 0.071),
    "conv4-2": (0.308, 0.817, 0.073),
    "Res6": (0.311, 0.817, 0.086),
}


def run(context: ExperimentContext) -> Result:
    """Eq. 3 and 4 on a random sample of the candidates, and on those with the highest and lowest SSLMem."""
    seeds = []
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for seed in context.seeds:
        measured = context.measure(seed)
        ranked = order(measured.of("candidate"))
        generator = torch.Generator().manual_seed(seed)
        sample = torch.randperm(len(ranked), generator=generator)[: context.preset.points(100)]
        some = min(context.preset.points(50), len(ranked) // 2)
        parts = {"layermem": sample, "top50": ranked[:some], "least50": ranked.flip(0)[:some]}
        values = {name: {tap: float(measured.ratios(tap)[ids].mean()) for tap in TAPS} for name, ids in parts.items()}
        seeds.append(values)
        depth = [values["layermem"][tap] for tap in CONV_TAPS]
        effects["rises with depth"].append(slope(depth))
        effects["deep above shallow"].append(center(depth[4:]) - center(depth[:4]))
        effects["top above least everywhere"].append(min(values["top50"][tap] - values["least50"][tap] for tap in TAPS))
        deltas = dict(zip(TAPS, memkern.delta_layermem(values["layermem"]), strict=True))
        skips = center(deltas[tap] for tap in ("Res2", "Res6"))
        effects["convolutions add more than skips"].append(center(deltas[tap] for tap in CONV_TAPS[1:]) - skips)
    rows: list[Row] = []
    for place, tap in enumerate(TAPS):
        row: Row = {"layer": tap}
        for name in ("layermem", "top50", "least50"):
            row[name] = center(values[name][tap] for values in seeds)
            row[f"{name}_std"] = spread(values[name][tap] for values in seeds)
        if place:
            row["delta"] = row["layermem"] - rows[-1]["layermem"]
            row["delta_top50"] = row["top50"] - rows[-1]["top50"]
        rows.append(row)
    series = {name: [float(row[name]) for row in rows] for name in ("layermem", "top50", "least50")}
    series["LayerMem in the paper"] = [_PAPER[tap][0] for tap in TAPS]
    figure = lines(series, list(TAPS), xlabel="layer", ylabel="LayerMem", title="LayerMem by layer")
    count = context.preset.points(50)
    return Result(rows, effects, figure, [f"Top 50 and least 50 are the {count} most and least memorized here."])


EXPERIMENT = Experiment(
    id="table-1",
    covers=("Table 1",),
    title="LayerMem and its change from layer to layer, ResNet9 trained with SimCLR",
    inputs="pairs f, g; candidates",
    columns=(
        "layer",
        "layermem",
        "layermem_std",
        "delta",
        "top50",
        "top50_std",
        "delta_top50",
        "least50",
        "least50_std",
    ),
    findings={
        "rises with depth": "LayerMem rises with depth (Kendall's tau of the eight convolutions with their depth).",
        "deep above shallow": "The last four convolutions have a higher LayerMem than the first four.",
        "top above least everywhere": "The most memorized points lie above the least memorized at every depth.",
        "convolutions add more than skips": "Convolutions add more than the sums of the skip connections do.",
    },
    published=[
        {"layer": tap, "layermem": values[0], "top50": values[1], "least50": values[2]}
        for tap, values in _PAPER.items()
    ],
    run=run,
)
