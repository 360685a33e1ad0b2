"""Figure 1b: is the image that excites a unit most a memorized image?"""

from __future__ import annotations

import torch

from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._plots import new_figure
from memkern.lab.experiments._statistics import kendall


def run(context: ExperimentContext) -> Result:
    """Measures for every unit of the last convolution its UnitMem and the SSLMem of its peak image."""
    tap, rows, effects = CONV_TAPS[-1], [], []
    for seed in context.seeds:
        measured = context.measure(seed)
        score = dict(zip(measured.ids.tolist(), measured.sslmem.tolist(), strict=True))
        peaks = measured.peak_ids(tap).tolist()
        for unit, (mem, peak) in enumerate(zip(measured[tap].unitmem.tolist(), peaks, strict=True)):
            rows.append({"seed": seed, "unit": unit, "unitmem": mem, "peak_id": peak, "sslmem_of_peak": score[peak]})
        of_seed = [(row["unitmem"], row["sslmem_of_peak"]) for row in rows if row["seed"] == seed]
        effects.append(kendall(*torch.tensor(of_seed).T)[0])
    figure = new_figure(5, 4)
    axes = figure.subplots()
    axes.scatter([row["sslmem_of_peak"] for row in rows], [row["unitmem"] for row in rows], s=6, alpha=0.4)
    axes.set_xlabel("SSLMem of the image with the unit's peak")
    axes.set_ylabel(f"UnitMem ({tap})")
    notes = ["Peak images are shared or candidate images; a shared image has been seen by g, too."]
    return Result(rows, {"UnitMem rises with SSLMem": effects}, figure, notes)


EXPERIMENT = Experiment(
    id="figure-1b",
    covers=("Figure 1b",),
    title="UnitMem of every unit of the last convolution against SSLMem of the image with its peak",
    inputs="pairs f, g; training images of f",
    columns=("seed", "unit", "unitmem", "peak_id", "sslmem_of_peak"),
    findings={
        "UnitMem rises with SSLMem": "Units with a high UnitMem peak on images with a high SSLMem (Kendall's tau)."
    },
    published=[],
    run=run,
)
