"""P1-b: SSLMem of the four groups, with t-tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memkern._util.optional_imports import require
from memkern.lab.data.splits import GROUPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._plots import new_figure
from memkern.lab.experiments._statistics import center

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run(context: ExperimentContext) -> Result:
    """Means of every group and, beside the candidates, Student's t-tests as in the released script."""
    rows, effects = [], {"candidate > shared": [], "candidate > extra": [], "shared > independent": []}  # type: ignore[var-annotated]
    ttest = require("scipy.stats", "scipy", extra="lab").ttest_ind
    for seed in context.seeds:
        measured = context.measure(seed)
        means = {name: measured.mean(name) for name in GROUPS}
        candidates = measured.of("candidate").double().numpy()
        for name in GROUPS:
            row = {"seed": seed, "group": name, "images": len(measured.rows(name)), "mean": means[name]}
            if name != "candidate":
                others = measured.of(name).double().numpy()
                both = ttest(candidates, others)
                row |= {"t": float(both.statistic), "p_two_sided": float(both.pvalue)}
                row["p_one_sided"] = float(ttest(candidates, others, alternative="greater").pvalue)
            rows.append(row)
        for pair, values in effects.items():
            larger, _, smaller = pair.split()
            values.append(means[larger] - means[smaller])
    figure = _draw(context)
    return Result(rows, effects, figure, [f"Mean over seeds: {_means(rows)}."])


def _means(rows: list[dict[str, object]]) -> str:
    return ", ".join(
        f"{name} {center(float(str(row['mean'])) for row in rows if row['group'] == name):+.4f}" for name in GROUPS
    )


def _draw(context: ExperimentContext) -> Figure:
    figure = new_figure(7, 4)
    axes = figure.subplots()
    scores = {name: [] for name in GROUPS}  # type: ignore[var-annotated]
    for seed in context.seeds:
        measured = context.measure(seed)
        for name in GROUPS:
            scores[name] += measured.of(name).tolist()
    axes.boxplot(list(scores.values()), tick_labels=list(scores), showmeans=True)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylabel("SSLMem")
    return figure


EXPERIMENT = Experiment(
    id="p1-b",
    covers=("P1-b",),
    title="SSLMem of shared, candidate, independent and extra images, with t-tests",
    inputs="pairs f, g; all four groups",
    columns=("seed", "group", "images", "mean", "t", "p_two_sided", "p_one_sided"),
    findings={
        "candidate > shared": "Images that only f saw score higher than images that both saw.",
        "candidate > extra": "Images that only f saw score higher than images that neither saw.",
        "shared > independent": "Images that only g saw score lower than images that both saw.",
    },
    published=[],
    run=run,
)
