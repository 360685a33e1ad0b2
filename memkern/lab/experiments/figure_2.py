"""Figures 2 and 3: UnitMem and ClassMem of every layer, self-supervised and supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memkern
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._plots import new_figure
from memkern.lab.experiments._statistics import center, slope, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run(context: ExperimentContext) -> Result:
    """UnitMem over augmented and ClassMem over clean training images of f."""
    found: dict[str, list[dict[str, tuple[list[float], list[float]]]]] = {"simclr": [], "supervised": []}
    accuracy: dict[str, list[float]] = {"simclr": [], "supervised": []}
    for seed in context.seeds:
        ids, data = context.split(seed).f, context.data()
        for method in found:
            recipe = context.recipe(method)
            encoder = context.encoder(seed, "f", recipe)
            reading = context.read(encoder, ids, recipe.views)
            layers = {}
            for tap in CONV_TAPS:
                units = memkern.unitmem(reading.unit_means[tap]).tolist()
                layers[tap] = (units, memkern.classmem(reading.clean_means[tap], data.labels[ids]).tolist())
            found[method].append(layers)
            accuracy[method].append(context.accuracy(encoder, seed))
    rows = []
    for method, seeds in found.items():
        for tap in CONV_TAPS:
            unit, group = ([center(layers[tap][which]) for layers in seeds] for which in (0, 1))
            above = [center(float(u > c) for u, c in zip(*layers[tap], strict=True)) for layers in seeds]
            rows.append(
                {
                    "method": method,
                    "layer": tap,
                    "unitmem": center(unit),
                    "unitmem_std": spread(unit),
                    "classmem": center(group),
                    "classmem_std": spread(group),
                    "units_above": center(above),
                }
            )

    def gap(layers: dict[str, tuple[list[float], list[float]]], tap: str) -> float:
        return center(layers[tap][0]) - center(layers[tap][1])

    def rise(layers: dict[str, tuple[list[float], list[float]]]) -> float:
        return slope([center(layers[tap][1]) for tap in CONV_TAPS])

    last = CONV_TAPS[-1]
    pairs = list(zip(found["simclr"], found["supervised"], strict=True))
    effects = {
        "self-supervised: UnitMem above ClassMem": [
            min(gap(layers, tap) for tap in CONV_TAPS) for layers in found["simclr"]
        ],
        "supervised: ClassMem rises with depth": [rise(layers) for layers in found["supervised"]],
        "last layer: supervised has more ClassMem": [center(sl[last][1]) - center(ssl[last][1]) for ssl, sl in pairs],
        "last layer: the gap is smaller when supervised": [gap(ssl, last) - gap(sl, last) for ssl, sl in pairs],
    }
    note = ", ".join(f"{method} {center(values):.1f} %" for method, values in accuracy.items())
    return Result(
        rows,
        effects,
        _draw(found),
        [
            f"Linear probe on {context.preset.data}: {note}. The paper stops the supervised training where both agree; "
            "here it runs as long as the other."
        ],
    )


def _draw(found: dict[str, list[dict[str, tuple[list[float], list[float]]]]]) -> Figure:
    figure = new_figure(14, 4.2)
    grid = figure.subplots(2, len(CONV_TAPS), sharex=True, sharey=True)
    for row, (method, seeds) in zip(grid, found.items(), strict=True):
        for axes, tap in zip(row, CONV_TAPS, strict=True):
            axes.scatter(*seeds[0][tap], s=4, alpha=0.5, linewidths=0)
            axes.plot([0, 1], [0, 1], color="black", linewidth=0.6)
            axes.set_title(tap, fontsize=8)
        row[0].set_ylabel(f"{method}\nClassMem")
    figure.supxlabel("UnitMem")
    return figure


EXPERIMENT = Experiment(
    id="figure-2",
    covers=("Figure 2", "Figure 3"),
    title="UnitMem and ClassMem by layer, SimCLR and supervised; the scatter of the units is Figure 3",
    inputs="f of every seed, trained with SimCLR and with labels; its training images",
    columns=("method", "layer", "unitmem", "unitmem_std", "classmem", "classmem_std", "units_above"),
    findings={
        "self-supervised: UnitMem above ClassMem": "With SimCLR mean UnitMem exceeds mean ClassMem in every layer.",
        "supervised: ClassMem rises with depth": "With labels ClassMem rises with depth (Kendall's tau).",
        "last layer: supervised has more ClassMem": "In the last layer ClassMem is higher with labels.",
        "last layer: the gap is smaller when supervised": "UnitMem exceeds ClassMem by less with labels.",
    },
    published=[],
    run=run,
)
