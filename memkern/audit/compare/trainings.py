"""Means of an audit over its trainings, with their errors: what two families of encoders are compared by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from memkern.audit.measure.alignments import output_alignments
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.reader import Run
from memkern.audit.statistics import TrainingMean
from memkern.families.images import Level
from memkern.families.layers import sslmem_without_one

Means: TypeAlias = tuple[TrainingMean, TrainingMean]
"""The mean of A and that of B."""

OfLayer: TypeAlias = Callable[[RunArrays, int], TrainingMean]


def varies(data: RunArrays) -> bool:
    """True if the encoders of an audit saw more than two sets of images."""
    return data.significance is not None and data.significance.design == "varying"


def n_measured(data: RunArrays) -> int:
    """Number of trainings whose units were measured."""
    return max(1, sum(value is not None and not math.isnan(value) for value in data.encoders.get("unitmem_mean", [])))


def trainings(data: RunArrays) -> tuple[int, int]:
    """Number of trainings f and g; of a design that varies by image all trainings and 0."""
    roles = data.encoders.get("role", [])
    if varies(data):
        return len(roles), 0
    return max(1, roles.count("f")), max(1, roles.count("g"))


def layermem_mean(data: RunArrays, place: int) -> TrainingMean:
    """Computes LayerMem of a layer beyond its control (of the scored images without a control), and its error.

    The error is the jackknife over trainings within f and g, given the images: both audits have the same ones.

    Args:
        data: The tables of an audit.
        place: The row of the layer.

    Returns:
        The mean; its `se` is NaN where a role has one training.
    """
    excess = float(data.column("layermem_excess")[place])
    value = float(data.scored_column("layermem")[place]) if math.isnan(excess) else excess
    n_f, n_g = trainings(data)
    return TrainingMean(value, float(data.column("se_encoders")[place]), n_f + n_g - (2 if n_g else 1))


def unitmem_mean(data: RunArrays, place: int) -> TrainingMean:
    """Computes mean UnitMem of a layer over the trainings whose units were measured, and its error.

    Args:
        data: The tables of an audit.
        place: The row of the layer.

    Returns:
        The mean; its `se` is NaN with one training.
    """
    value, se = (float(data.column(name)[place]) for name in ("unitmem_mean", "unitmem_se"))
    return TrainingMean(value, se, n_measured(data) - 1)


def sslmem_mean(run: Run, data: RunArrays) -> TrainingMean | None:
    """Computes mean SSLMem beyond the control (of the scored images without a control), and its error over trainings.

    Mean SSLMem of a split is the mean over the g's minus that over the f's of one number a training: the mean alignment
    of the scored images minus that of the control. So the error is that of two means over trainings. Where the design
    varies by image, it is the jackknife over trainings of the whole estimate, levels too, given the images.

    Args:
        run: The audit.
        data: Its tables.

    Returns:
        The mean; `None` where a role has one training, there are two encoders, or readings are missing.
    """
    if (trainings(data)[0] < 3) if varies(data) else min(trainings(data)) < 2:
        return None
    found = output_alignments(run, data)
    if found is None:
        return None
    if varies(data):
        level: Level = "auto" if data.significance is not None and data.significance.levels_removed else "none"
        value, left_out = sslmem_without_one(found.values, found.design, level=level)
        count = len(left_out)
        return TrainingMean(value, float(np.sqrt((count - 1) * left_out.var())), count - 1)
    finite = np.isfinite(found.values.sum(1))
    scored, control = (rows[finite[rows]] for rows in (data.scored, data.control))
    each = found.values[scored].mean(0) - (found.values[control].mean(0) if len(control) else 0.0)
    roles = np.array(data.encoders["role"])
    f, g = each[roles == "f"], each[roles == "g"]
    parts = np.array([f.var(ddof=1) / len(f), g.var(ddof=1) / len(g)])
    degrees = parts.sum() ** 2 / (parts**2 / [len(f) - 1, len(g) - 1]).sum()
    return TrainingMean(float(g.mean() - f.mean()), float(np.sqrt(parts.sum())), float(degrees))


def of_both(a: RunArrays, b: RunArrays, names: Sequence[str], mean: OfLayer) -> dict[str, Means]:
    """Lists the layers whose error over trainings is known in both audits.

    Args:
        a: The tables of A.
        b: The tables of B.
        names: The layers; both audits have them.
        mean: From an audit and the row of a layer to the mean.

    Returns:
        Layer -> the means.
    """
    rows = [{str(name): row for row, name in enumerate(data.layers["layer"])} for data in (a, b)]
    both = {name: (mean(a, rows[0][name]), mean(b, rows[1][name])) for name in names}
    return {name: pair for name, pair in both.items() if not any(math.isnan(each.se) for each in pair)}
