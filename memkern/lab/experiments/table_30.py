"""Table 30: every single layer replaced."""

from __future__ import annotations

from memkern.lab.experiments import _replacement
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result

_PAPER = {
    "none": (69.37, 20.09), "1": (63.07, 18.79), "2": (65.19, 19.01), "3": (64.47, 18.99), "4": (60.29, 20.44),
    "5": (62.74, 19.93), "6": (59.91, 21.92), "7": (60.77, 20.97), "8": (60.04, 21.71),
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """Eight replacements and none."""
    donor = context.preset.others[0]
    found = _replacement.measure(context, donor, _replacement.all_choices(1))
    _, delta = _replacement.layer_scores(context)
    effects = _replacement.cost_and_memory(found, delta, len(context.seeds))
    return Result(_replacement.rows(donor, found, {}), {"cost follows delta": effects})


EXPERIMENT = Experiment(
    id="table-30",
    covers=("Table 30",),
    title="Accuracy after replacing each single layer",
    inputs="pairs f, g; an encoder of the other data set; labeled images of both",
    columns=_replacement.COLUMNS,
    findings={"cost follows delta": "Layers with a larger change of LayerMem cost more accuracy (Kendall's tau)."},
    published=[
        {"donor": "stl10", "layers": layers, "accuracy": own, "donor_accuracy": other}
        for layers, (own, other) in _PAPER.items()
    ],
    run=run,
)
