"""Table 12: points that are the peak of many highly memorizing units, and their SSLMem."""

from __future__ import annotations

import torch

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, order


def run(context: ExperimentContext) -> Result:
    """Counts how often each image is the peak of the tenth of the last layer's units with the highest UnitMem."""
    tap, rows, effects = CONV_TAPS[-1], list[Row](), {name: list[float]() for name in EXPERIMENT.findings}
    for seed in context.seeds:
        measured = context.measure(seed)
        score = dict(zip(measured.ids.tolist(), measured.sslmem.tolist(), strict=True))
        top = order(measured[tap].unitmem)[: round(0.1 * len(measured[tap].unitmem))]
        images, counts = measured.peak_ids(tap)[top].unique(return_counts=True)
        for count in counts.unique().tolist():
            which = images[counts == count].tolist()
            mean = center(score[image] for image in which)
            rows.append({"seed": seed, "times": count, "points": len(which), "sslmem": mean})
        trained = torch.cat([measured.rows("shared"), measured.rows("candidate")])
        all_mean = float(measured.sslmem[trained].mean())
        effects["peaks are memorized points"].append(center(score[image] for image in images.tolist()) - all_mean)
        candidates = set(measured.ids[measured.rows("candidate")].tolist())
        share = center(float(image in candidates) for image in measured.peak_ids(tap)[top].tolist())
        effects["peaks are candidates"].append(share - len(candidates) / len(trained))
    return Result(rows, effects)


EXPERIMENT = Experiment(
    id="table-12",
    covers=("Table 12",),
    title="How often an image is the peak of a highly memorizing unit, and its SSLMem",
    inputs="pairs f, g; training images of f",
    columns=("seed", "times", "points", "sslmem"),
    findings={
        "peaks are memorized points": "Images that are peaks have a higher SSLMem than the training images on average.",
        "peaks are candidates": "Peaks fall on candidates more often than on shared images of the same number.",
    },
    published=[
        {"times": times, "points": points, "sslmem": score}
        for times, points, score in ((1, 10, 0.694), (2, 2, 0.813), (3, 1, 0.833), (4, 1, 0.857), (5, 1, 0.891))
    ],
    run=run,
)
