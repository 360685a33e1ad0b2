"""Table 28: does another random seed memorize the same points?"""

from __future__ import annotations

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._statistics import center, order, overlap, spread
from memkern.scores import sslmem_score

_PAPER = (73, 69, 75, 89, 85, 88, 86, 90)


def run(context: ExperimentContext) -> Result:
    """Trains f once more with other random numbers on the same images; g stays."""
    overlaps: dict[str, list[float]] = {tap: [] for tap in CONV_TAPS}
    chance: list[float] = []
    for seed in context.seeds:
        measured, recipe = context.measure(seed), context.recipe()
        place = measured.rows("candidate")
        twin = context.encoder(seed, "f", recipe, repeat=1)
        reading = context.read(twin, measured.ids[place], recipe.views)
        most = min(context.preset.points(100), len(place) // 3)
        chance.append(100 * most / len(place))
        for tap in CONV_TAPS:
            reference = measured.g.alignment[tap][place]
            first = order(measured.ratios(tap))[:most]
            second = order(sslmem_score(reading.alignment[tap], reference, "ratio"))[:most]
            overlaps[tap].append(overlap(first, second))
    rows = [{"layer": tap, "overlap": center(values), "std": spread(values)} for tap, values in overlaps.items()]
    seeds = range(len(context.seeds))
    effects = {"above chance": [center(overlaps[tap][i] for tap in CONV_TAPS) - chance[i] for i in seeds]}
    note = (
        f"Two random lists would overlap by {center(chance):.0f} %. Both scores share g, whose "
        "alignment alone makes some overlap."
    )
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="table-28",
    covers=("Table 28",),
    title="Overlap of the most memorized points of two trainings that differ in the random seed",
    inputs="pairs f, g; a second f of every seed; candidates",
    columns=("layer", "overlap", "std"),
    findings={"above chance": "The most memorized points of two trainings overlap more than random lists."},
    published=[{"layer": tap, "overlap": value} for tap, value in zip(CONV_TAPS, _PAPER, strict=True)],
    run=run,
)
