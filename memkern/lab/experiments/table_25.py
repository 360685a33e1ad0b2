"""Table 25: are batch norms of encoders trained on different data alike?"""

from __future__ import annotations

from torch import cat
from torch.nn import functional

from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread

_PAPER = (0.797, 0.844, 0.823, 0.811, 0.779, 0.805, 0.847, 0.881)


def run(context: ExperimentContext) -> Result:
    """Cosine of the scales and shifts of each norm, joined to one vector."""
    donor = context.preset.others[0]
    found: dict[str, list[float]] = {tap: [] for tap in CONV_TAPS}
    for seed in context.seeds:
        pair = [context.encoder(seed).state_dict(), context.encoder(seed, data=donor).state_dict()]
        for tap in CONV_TAPS:
            a, b = (cat([state[f"{TAPS[tap]}.bn.{key}"] for key in ("weight", "bias")]) for state in pair)
            found[tap].append(float(functional.cosine_similarity(a, b, dim=0)))
    rows: list[Row] = [{"layer": tap, "cosine": center(values), "std": spread(values)} for tap, values in found.items()]
    effects = [center(found[tap][i] for tap in CONV_TAPS) - 0.5 for i in range(len(context.seeds))]
    note = "All encoders start from scale 1 and shift 0, which alone makes the cosine large after a short training."
    return Result(rows, {"norms are alike": effects}, None, [note])


EXPERIMENT = Experiment(
    id="table-25",
    covers=("Table 25",),
    title="Cosine of the batch norm parameters of encoders trained on different data",
    inputs="f of every seed, trained on the preset's data and on another set",
    columns=("layer", "cosine", "std"),
    findings={"norms are alike": "The mean cosine is above 0.5."},
    published=[{"layer": tap, "cosine": value} for tap, value in zip(CONV_TAPS, _PAPER, strict=True)],
    run=run,
)
