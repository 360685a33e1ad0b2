"""Tables 32 and 33: every pair and every three layers replaced."""

from __future__ import annotations

from memkern.lab.experiments import _replacement
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result

_PAPER = {
    "none": (69.37, 18.44), "2,3": (55.44, 19.31), "6,8": (44.13, 25.08), "7,8": (44.98, 24.91), "6,7": (44.76, 24.90),
    "2,3,5": (50.48, 21.71), "4,6,8": (37.66, 31.94), "6,7,8": (38.95, 31.59), "4,6,7": (40.02, 32.55),
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """28 pairs and 56 triples; at `tiny` every seventh of them."""
    donor = context.preset.others[0]
    choices = [(), *_replacement.all_choices(2)[1:], *_replacement.all_choices(3)[1:]]
    if context.preset.name == "tiny":
        choices = choices[::14]
    found = _replacement.measure(context, donor, choices)
    _, delta = _replacement.layer_scores(context)
    of_size = {size: {key: value for key, value in found.items() if len(key) in (0, size)} for size in (2, 3)}
    effects = {
        f"cost of {size} layers follows delta": _replacement.cost_and_memory(part, delta, len(context.seeds))
        for size, part in of_size.items()
    }
    return Result(_replacement.rows(donor, found, {}), effects)


EXPERIMENT = Experiment(
    id="table-32",
    covers=("Table 32", "Table 33"),
    title="Accuracy after replacing every pair and every three layers",
    inputs="pairs f, g; an encoder of the other data set; labeled images of both",
    columns=_replacement.COLUMNS,
    findings={
        f"cost of {size} layers follows delta": (
            f"{size} layers with a larger summed change of LayerMem cost more accuracy (Kendall's tau)."
        )
        for size in (2, 3)
    },
    published=[
        {"donor": "stl10", "layers": layers, "accuracy": own, "donor_accuracy": other}
        for layers, (own, other) in _PAPER.items()
    ],
    run=run,
)
