"""Table 15: LayerMem by layer of ResNet18."""

from __future__ import annotations

from memkern.lab.encoders import described
from memkern.lab.experiment import Experiment, Result, Row
from memkern.lab.experiments._common import center, lines, ratios, slope, spread
from memkern.lab.workbench import Lab

_PAPER = {
    "conv1": 0.074, "maxpool": 0.092, "conv2-1": 0.101, "conv2-2": 0.110, "conv2-3": 0.123, "conv2-4": 0.134,
    "conv3-1": 0.146, "conv3-2": 0.155, "conv3-3": 0.166, "conv3-4": 0.183, "conv4-1": 0.193, "conv4-2": 0.206,
    "conv4-3": 0.220, "conv4-4": 0.239, "conv5-1": 0.246, "conv5-2": 0.257, "conv5-3": 0.272, "conv5-4": 0.295,
    "avgpool": 0.266,
}  # fmt: skip


def run(lab: Lab) -> Result:
    """LayerMem of the candidates at every tap."""
    recipe = lab.recipe("simclr", lab.preset.resnet)
    found: dict[str, list[float]] = {}
    for seed in lab.seeds:
        audit = lab.audit(seed, recipe)
        for tap in described(lab.encoder(seed, "f", recipe)).taps:
            found.setdefault(tap, []).append(float(ratios(audit, tap).mean()))
    rows: list[Row] = [
        {"layer": tap, "layermem": center(values), "std": spread(values)} for tap, values in found.items()
    ]
    convs = [tap for tap in found if tap.startswith("conv")]
    effects = {
        "rises with depth": [slope([found[tap][i] for tap in convs]) for i in range(len(lab.seeds))],
        "the average pool lowers it": [found["conv5-4"][i] - found["avgpool"][i] for i in range(len(lab.seeds))],
    }
    series = {"LayerMem": [row["layermem"] for row in rows]}
    figure = lines(series, list(found), xlabel="layer", ylabel="LayerMem", title=f"LayerMem of {lab.preset.resnet}")
    note = "The paper's last rows, fully-connected and softmax, belong to a classifier that SimCLR does not train."
    return Result(rows, effects, figure, [note])


EXPERIMENT = Experiment(
    id="table-15",
    covers=("Table 15",),
    title="LayerMem of every convolution of ResNet18, trained with SimCLR",
    inputs="pairs f, g: ResNet18; candidates",
    columns=("layer", "layermem", "std"),
    findings={
        "rises with depth": "LayerMem rises with depth (Kendall's tau over the convolutions).",
        "the average pool lowers it": "It is lower after the average pool than after the last convolution.",
    },
    published=[{"layer": tap, "layermem": value} for tap, value in _PAPER.items()],
    run=run,
)
