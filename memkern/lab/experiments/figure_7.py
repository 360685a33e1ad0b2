"""Figure 7, Table 11, Figure 8: UnitMem on the most and on the least memorized points, and its median variant."""

from __future__ import annotations

import memkern
from memkern._util.optional_imports import require
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, order, spread

_PAPER = {
    "most": (0.507, 0.501, 0.503, 0.512, 0.509, 0.514, 0.515, 0.522),
    "least": (0.235, 0.231, 0.233, 0.240, 0.242, 0.246, 0.245, 0.248),
    "t": (65.89, 66.25, 65.94, 65.12, 64.13, 63.67, 64.09, 64.18),
}


def run(context: ExperimentContext) -> Result:
    """UnitMem of f over two sets of candidates, and Student's one-sided t-test over the units."""
    ttest = require("scipy.stats", "scipy", extra="lab").ttest_ind
    found: dict[str, list[dict[str, float]]] = {tap: [] for tap in CONV_TAPS}
    for seed in context.seeds:
        measured = context.measure(seed)
        place = measured.rows("candidate")
        ranked = place[order(measured.of("candidate"))]
        some = min(context.preset.points(50), len(ranked) // 2)
        for tap in CONV_TAPS:
            most, least = (measured.f.unit_means[tap][ids] for ids in (ranked[:some], ranked.flip(0)[:some]))
            a, b = memkern.unitmem(most), memkern.unitmem(least)
            tested = ttest(a.double().numpy(), b.double().numpy(), alternative="greater")
            median = memkern.unitmem(most, rest="median")
            found[tap].append(
                {
                    "most": float(a.mean()),
                    "least": float(b.mean()),
                    "most_median": float(median.mean()),
                    "t": float(tested.statistic),
                    "p": float(tested.pvalue),
                }
            )
    rows: list[Row] = []
    for tap, seeds in found.items():
        row: Row = {"layer": tap}
        for name in ("most", "least", "most_median", "t", "p"):
            row[name] = center(values[name] for values in seeds)
        row["most_std"], row["least_std"] = (spread(values[name] for values in seeds) for name in ("most", "least"))
        rows.append(row)
    seeds_range = range(len(context.seeds))
    effects = {
        "most above least": [
            center(found[tap][i]["most"] - found[tap][i]["least"] for tap in CONV_TAPS) for i in seeds_range
        ],
        "most above least, worst layer": [
            min(found[tap][i]["most"] - found[tap][i]["least"] for tap in CONV_TAPS) for i in seeds_range
        ],
        "median close to mean": [
            center(
                abs(found[tap][i]["most"] - found[tap][i]["least"])
                - abs(found[tap][i]["most_median"] - found[tap][i]["most"])
                for tap in CONV_TAPS
            )
            for i in seeds_range
        ],
    }
    series = {name: [float(row[name]) for row in rows] for name in ("most", "least", "most_median")}
    figure = lines(series, CONV_TAPS, xlabel="layer", ylabel="mean UnitMem", title="UnitMem on two sets")
    note = (
        f"{context.preset.points(50)} points each. The paper's t near 65 cannot be had from the units of one layer; "
        "what its samples were is not said. Here they are the units of the layer; t and p are means over seeds."
    )
    return Result(rows, effects, figure, [note])


EXPERIMENT = Experiment(
    id="figure-7",
    covers=("Figure 7", "Table 11", "Figure 8"),
    title="UnitMem measured on the most and on the least memorized points; mean against median of the others",
    inputs="pairs f, g; candidates",
    columns=("layer", "most", "most_std", "least", "least_std", "most_median", "t", "p"),
    findings={
        "most above least": "UnitMem is higher on the most memorized points than on the least memorized ones.",
        "most above least, worst layer": "It is so in every layer.",
        "median close to mean": "The median of the others changes UnitMem by less than the choice of the points does.",
    },
    published=[
        {"layer": tap, "most": most, "least": least, "t": t}
        for tap, most, least, t in zip(CONV_TAPS, _PAPER["most"], _PAPER["least"], _PAPER["t"], strict=True)
    ],
    run=run,
)
