"""Table 24: replacing whole blocks of ResNet50."""

from __future__ import annotations

import itertools

from memkern.lab.experiments import _replacement, _resnet_layers
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center

_STAGES = (3, 4, 6, 3)
"""Blocks of each stage; a block has three convolutions."""

_BLOCKS = [(stage, block) for stage, count in enumerate(_STAGES, 1) for block in range(count)]
_NAMES = [f"C{stage + 1}_B{block + 1}" for stage, block in _BLOCKS]
_MODULES = [f"net.layer{stage}.{block}" for stage, block in _BLOCKS]
_PAPER = {
    "stl10": {"none": (77.12, 18.22), "most": (43.66, 25.78), "random": (51.09, 22.55), "least": (57.41, 20.10)},
    "svhn": {"none": (77.12, 28.44), "most": (35.21, 38.11), "random": (44.19, 32.44), "least": (49.06, 29.98)},
}
_PAPER_BLOCKS = {
    "none": "none", "most": "C4_B6,C3_B4,C2_B3", "random": "C3_B2,C4_B4,C5_B2", "least": "C2_B1,C2_B2,C3_B3",
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """Chooses three blocks by what LayerMem gains from the end of the block before to their own."""
    name = _resnet_layers.encoder(context, 50)
    recipe = context.recipe("simclr", name)
    mem = _resnet_layers.layermem(context, "simclr", name)
    ends = ["conv1", *(f"conv{stage + 1}-{3 * (block + 1)}" for stage, block in _BLOCKS)]
    delta = [center(mem[b]) - center(mem[a]) for a, b in itertools.pairwise(ends)]
    ranked = sorted(range(len(delta)), key=lambda place: delta[place], reverse=True)
    random = tuple(_NAMES.index(block) + 1 for block in _PAPER_BLOCKS["random"].split(","))
    choices: dict[str, _replacement.Layers] = {
        "none": (),
        "most": tuple(sorted(place + 1 for place in ranked[:3])),
        "random": random,
        "least": tuple(sorted(place + 1 for place in ranked[-3:])),
    }
    chosen_by: dict[_replacement.Layers, str] = {}
    for which, layers in choices.items():
        chosen_by[layers] = f"{chosen_by[layers]}, {which}" if layers in chosen_by else which
    rows: list[Row] = []
    costs: dict[str, list[list[float]]] = {finding: [] for finding in EXPERIMENT.findings}
    for donor in context.preset.others:
        found = _replacement.measure(context, donor, chosen_by, recipe=recipe, modules=_MODULES)
        rows += _replacement.rows(donor, found, chosen_by, _NAMES)
        for less in ("random", "least"):
            values = zip(found[choices[less]], found[choices["most"]], strict=True)
            costs[f"most costs more than {less}"].append([kept[0] - lost[0] for kept, lost in values])
    effects = {finding: [center(each) for each in zip(*donors, strict=True)] for finding, donors in costs.items()}
    note = (
        "A block's change of LayerMem is that of its last convolution against the one of the block before (the first "
        "block: against conv1), mean over the seeds. Each accuracy has a linear probe of its own. The random blocks "
        "are the paper's."
    )
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="table-24",
    covers=("Table 24",),
    title="Accuracy after replacing three blocks of ResNet50 by those of an encoder trained on other data",
    inputs="pairs f, g: ResNet50; an encoder of each other data set; labeled images of all",
    columns=_replacement.COLUMNS,
    findings={
        "most costs more than random": "Blocks with the largest change of LayerMem cost more than random ones.",
        "most costs more than least": "They cost more than those with the smallest.",
    },
    published=[
        {"donor": donor, "chosen_by": which, "layers": _PAPER_BLOCKS[which], "accuracy": own, "donor_accuracy": other}
        for donor, listed in _PAPER.items()
        for which, (own, other) in listed.items()
    ],
    run=run,
)
