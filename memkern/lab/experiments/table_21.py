"""Tables 21 to 23: replacing the layers that memorize most costs more than replacing others."""

from __future__ import annotations

from memkern.lab.experiments import _replacement
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center

_TRIPLES = {
    "stl10": {
        "none": (69.08, 17.81), "4,6,8": (36.59, 32.33), "6,7,8": (39.07, 29.82), "4,5,7": (43.22, 25.89),
        "2,3,4": (49.95, 24.71), "2,3,5": (59.14, 23.10), "6": (59.84, 21.98), "8": (60.02, 21.67), "5": (62.98, 20.44),
        "2": (65.52, 18.94), "3": (64.21, 18.89),
    },
    "svhn": {
        "none": (69.08, 19.33), "4,6,8": (33.07, 34.05), "6,7,8": (34.97, 31.87), "4,5,7": (39.28, 26.04),
        "2,3,5": (52.81, 21.05), "2,3,4": (45.39, 24.66), "6": (59.22, 22.47), "8": (59.69, 21.60), "5": (61.07, 21.09),
        "2": (62.93, 20.44), "3": (62.35, 20.18),
    },
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """Chooses three layers, and one, by LayerMem and by its difference, as this pair measures them."""
    mem, delta = _replacement.layer_scores(context)
    chosen_by: dict[_replacement.Layers, str] = {(): "none"}
    choices = {
        "most delta": _replacement.best(delta, 3),
        "most LayerMem": _replacement.best(mem, 3),
        "least delta": _replacement.best(delta, 3, most=False),
        "least LayerMem": _replacement.best(mem, 3, most=False),
        "random": (4, 5, 7),
        "single most delta": _replacement.best(delta, 1),
        "single least delta": _replacement.best(delta, 1, most=False),
    }
    for name, layers in choices.items():
        chosen_by[layers] = f"{chosen_by[layers]}, {name}" if layers in chosen_by else name
    rows: list[Row] = []
    costs: dict[str, list[list[float]]] = {name: [] for name in EXPERIMENT.findings}
    for donor in context.preset.others:
        found = _replacement.measure(context, donor, chosen_by)
        rows += _replacement.rows(donor, found, chosen_by)
        for name, more, less in (
            ("most delta costs more than least delta", "most delta", "least delta"),
            ("most LayerMem costs more than least LayerMem", "most LayerMem", "least LayerMem"),
            ("single layer: most delta costs more", "single most delta", "single least delta"),
        ):
            values = zip(found[choices[less]], found[choices[more]], strict=True)
            costs[name].append([kept[0] - lost[0] for kept, lost in values])
    effects = {name: [center(each) for each in zip(*donors, strict=True)] for name, donors in costs.items()}
    note = (
        "Layers are chosen among 2 to 8 by the mean over the seeds. Each accuracy has a linear probe of its own. The "
        "paper's accuracies on the donor's data are near chance without replacement, so its probes were probably not "
        "trained there; that column cannot be compared."
    )
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="table-21",
    covers=("Table 21", "Table 22", "Table 23"),
    title="Accuracy after replacing layers by those of an encoder trained on other data",
    inputs="pairs f, g; an encoder of the other data set; labeled images of both",
    columns=_replacement.COLUMNS,
    findings={
        "most delta costs more than least delta": "The layers with the largest change of LayerMem cost more accuracy.",
        "most LayerMem costs more than least LayerMem": "Those with the largest LayerMem cost more than the smallest.",
        "single layer: most delta costs more": "So it is for a single layer.",
    },
    published=[
        {"donor": donor, "layers": layers, "accuracy": own, "donor_accuracy": other}
        for donor, listed in _TRIPLES.items()
        for layers, (own, other) in listed.items()
    ],
    run=run,
)
