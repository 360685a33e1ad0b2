"""Figure 13: the ten most memorized images of each layer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import new_figure
from memkern.lab.experiments._statistics import center, order, overlap

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run(context: ExperimentContext) -> Result:
    """Ranks the candidates at every layer; the figure shows the first seed's."""
    rows: list[Row] = []
    effects: list[float] = []
    for seed in context.seeds:
        measured, data = context.measure(seed), context.data()
        place = measured.rows("candidate")
        tops = {tap: measured.ids[place[order(measured.ratios(tap))[:10]]] for tap in CONV_TAPS}
        for tap, ids in tops.items():
            for rank, image in enumerate(ids.tolist(), 1):
                name = data.label_names[int(data.labels[image])]
                rows.append({"seed": seed, "layer": tap, "rank": rank, "id": image, "class": name})
        listed = list(tops.values())
        near = center(overlap(a, b) for a, b in itertools.pairwise(listed))
        effects.append(near - overlap(listed[0], listed[-1]))
    return Result(rows, {"neighboring layers share images": effects}, _draw(context, rows))


def _draw(context: ExperimentContext, rows: list[Row]) -> Figure:
    figure = new_figure(9, 7)
    grid = figure.subplots(len(CONV_TAPS), 10)
    for axes in grid.flat:
        axes.axis("off")
    for row in rows:
        if row["seed"] == context.seeds[0]:
            axes = grid[CONV_TAPS.index(row["layer"]), row["rank"] - 1]
            axes.imshow(context.data().images[row["id"]].permute(1, 2, 0).numpy())
            if row["rank"] == 1:
                axes.set_title(row["layer"], fontsize=8, loc="left")
    return figure


EXPERIMENT = Experiment(
    id="figure-13",
    covers=("Figure 13",),
    title="The ten most memorized candidates of every convolution",
    inputs="pairs f, g; candidates",
    columns=("seed", "layer", "rank", "id", "class"),
    findings={
        "neighboring layers share images": "Neighboring layers share more of their top ten than the first and the last."
    },
    published=[],
    run=run,
)
