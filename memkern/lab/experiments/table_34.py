"""Table 34 and Figure 6: UnitMem does not collapse on images of one class, nor depend on how many there are."""

from __future__ import annotations

import torch

import memkern
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center

_PAPER = {"all classes": (0.366, 0.409), "3 classes": (0.357, 0.385), "1 class": (0.360, 0.397)}


def run(context: ExperimentContext) -> Result:
    """UnitMem of f over equally many training images of all, three and one classes, and over more of all."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for seed in context.seeds:
        measured = context.measure(seed)
        trained = torch.cat([measured.rows("shared"), measured.rows("candidate")])
        labels = measured.labels[trained]
        one = trained[labels == labels.unique()[0]]
        three = trained[labels < labels.unique()[3]]
        generator = torch.Generator().manual_seed(seed)
        few = trained[torch.randperm(len(trained), generator=generator)[: len(one)]]
        per_class = torch.stack([trained[labels == label][0] for label in labels.unique()])
        sets = {
            "all classes": few,
            "3 classes": three[torch.randperm(len(three), generator=generator)[: len(one)]],
            "1 class": one,
            "one image per class": per_class,
            "all images": trained,
        }
        for name, ids in sets.items():
            for tap in CONV_TAPS:
                mem = memkern.unitmem(measured.f.unit_means[tap][ids])
                found.setdefault((name, tap), []).append((float(mem.min()), float(mem.max()), float(mem.mean())))
    rows: list[Row] = [
        {
            "images": name,
            "layer": tap,
            "least": center(value[0] for value in values),
            "largest": center(value[1] for value in values),
            "unitmem": center(value[2] for value in values),
        }
        for (name, tap), values in found.items()
    ]

    def mean(name: str, i: int) -> float:
        return center(found[name, tap][i][2] for tap in CONV_TAPS)

    seeds = range(len(context.seeds))
    effects = {
        "one class keeps half of it": [mean("1 class", i) - 0.5 * mean("all classes", i) for i in seeds],
        "one image per class is like all": [
            0.2 - abs(mean("one image per class", i) - mean("all images", i)) for i in seeds
        ],
    }
    note = "UnitMem grows with the number of images by itself, since a maximum of more numbers is larger."
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="table-34",
    covers=("Table 34", "Figure 6"),
    title="UnitMem over images of all, three and one classes, and over few and many images",
    inputs="f of every seed; subsets of its training images",
    columns=("images", "layer", "least", "largest", "unitmem"),
    findings={
        "one class keeps half of it": "Over one class, mean UnitMem is at least half of that over all classes.",
        "one image per class is like all": "Over one image per class it is within 0.2 of that over all images.",
    },
    published=[
        {"images": name, "layer": layer, "unitmem": value}
        for name, values in _PAPER.items()
        for layer, value in zip(("conv1", "conv4-2"), values, strict=True)
    ],
    run=run,
)
