"""LayerMem by layer of a torchvision ResNet (Tables 15 to 17)."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.lab.encoders.build import described
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, slope, spread


def encoder(context: ExperimentContext, depth: int) -> str:
    """Names the ResNet of a depth with the preset's stem."""
    return context.preset.resnet.replace("18", str(depth))


def layermem(context: ExperimentContext, method: str, name: str) -> dict[str, list[float]]:
    """Measures LayerMem of the candidates: tap -> one number per seed."""
    recipe = context.recipe(method, name)
    found: dict[str, list[float]] = {}
    for seed in context.seeds:
        measured = context.measure(seed, recipe)
        for tap in described(context.encoder(seed, "f", recipe)).taps:
            found.setdefault(tap, []).append(float(measured.ratios(tap).mean()))
    return found


def experiment(table: int, depth: int, published: Mapping[str, float]) -> Experiment:
    """Makes the experiment of one depth.

    Args:
        table: Number of the paper's table.
        depth: 18, 34 or 50.
        published: The paper's LayerMem by tap.

    Returns:
        The experiment.
    """

    def run(context: ExperimentContext) -> Result:
        found = layermem(context, "simclr", encoder(context, depth))
        rows: list[Row] = [
            {"layer": tap, "layermem": center(values), "std": spread(values)} for tap, values in found.items()
        ]
        convs = [tap for tap in found if tap.startswith("conv")]
        effects = {
            "rises with depth": [slope([found[tap][i] for tap in convs]) for i in range(len(context.seeds))],
            "the average pool lowers it": [
                last - pooled for last, pooled in zip(found[convs[-1]], found["avgpool"], strict=True)
            ],
        }
        series = {"LayerMem": [row["layermem"] for row in rows]}
        title = f"LayerMem of {encoder(context, depth)}"
        figure = lines(series, list(found), xlabel="layer", ylabel="LayerMem", title=title)
        note = "The paper's last rows, fully-connected and softmax, belong to a classifier that SimCLR does not train."
        return Result(rows, effects, figure, [note])

    return Experiment(
        id=f"table-{table}",
        covers=(f"Table {table}",),
        title=f"LayerMem of every convolution of ResNet{depth}, trained with SimCLR",
        inputs=f"pairs f, g: ResNet{depth}; candidates",
        columns=("layer", "layermem", "std"),
        findings={
            "rises with depth": "LayerMem rises with depth (Kendall's tau over the convolutions).",
            "the average pool lowers it": "It is lower after the average pool than after the last convolution.",
        },
        published=[{"layer": tap, "layermem": value} for tap, value in published.items()],
        run=run,
    )
