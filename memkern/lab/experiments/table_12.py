"""Table 12: points that are the peak of many highly memorizing units, and their SSLMem."""

from __future__ import annotations

import torch

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._common import center, order
from memkern.lab.experiments._context import Lab
from memkern.lab.experiments._experiment import Experiment, Result, Row


def run(lab: Lab) -> Result:
    """Counts how often each image is the peak of the tenth of the last layer's units with the highest UnitMem."""
    tap, rows, effects = CONV_TAPS[-1], list[Row](), {name: list[float]() for name in EXPERIMENT.findings}
    for seed in lab.seeds:
        audit = lab.audit(seed)
        score = dict(zip(audit.ids.tolist(), audit.sslmem.tolist(), strict=True))
        top = order(audit.unitmem[tap])[: round(0.1 * len(audit.unitmem[tap]))]
        images, counts = audit.peak_ids[tap][top].unique(return_counts=True)
        for count in counts.unique().tolist():
            which = images[counts == count].tolist()
            mean = center(score[image] for image in which)
            rows.append({"seed": seed, "times": count, "points": len(which), "sslmem": mean})
        trained = torch.cat([audit.of("shared"), audit.of("candidate")])
        all_mean = float(audit.sslmem[trained].mean())
        effects["peaks are memorized points"].append(center(score[image] for image in images.tolist()) - all_mean)
        candidates = set(audit.ids[audit.of("candidate")].tolist())
        share = center(float(image in candidates) for image in audit.peak_ids[tap][top].tolist())
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
