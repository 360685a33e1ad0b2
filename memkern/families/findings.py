"""Failures that a family of encoders can show, by name: scores near zero, collapse, variance between trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from memkern.families.design import Design
from memkern.families.images import ImageScores
from memkern.families.layers import LayerScores

MIN_RELIABILITY = 0.5
"""Below this, less than half of the spread of scores would show again with other trainings."""


@dataclass(frozen=True)
class Finding:
    """A failure that numbers show.

    Attributes:
        name: Of the failure.
        sentence: What was found, and what to look at.
    """

    name: Literal["collapsed", "near zero", "unreliable", "levels above effect"]
    sentence: str


def findings(scores: ImageScores, layers: LayerScores, design: Design) -> tuple[Finding, ...]:
    """Looks for the failures that make a study of memorization hard to repeat.

    "collapsed": most scored images have a difference of exactly 0 in a layer. "near zero": no layer's 95 % interval
    leaves 0 out, and no image is called. "unreliable": the ranking has a reliability below 0.5 at the output. "levels
    above effect": levels of trainings have a standard deviation above the mean difference at the output.

    Args:
        scores: Of `image_scores`.
        layers: Of `layer_scores`, of the same layers.
        design: The design they were made with.

    Returns:
        The findings, in this order; none if nothing is found.
    """
    looked = (
        _collapsed(scores, design),
        _near_zero(scores, layers),
        _unreliable(scores, design),
        _levels(scores, design),
    )
    return tuple(each for each in looked if each is not None)


def _collapsed(scores: ImageScores, design: Design) -> Finding | None:
    flat = np.flatnonzero((scores.sslmem[:, design.scored] == 0).mean(1) > 0.5)
    if not len(flat):
        return None
    which = "the output" if scores.output in flat else f"layer {flat[0]}"
    more = f" and {len(flat) - 1} more" if len(flat) > 1 else ""
    return Finding(
        "collapsed",
        f"Most images have a difference of exactly 0 at {which}{more}: the encoders give every view the same output "
        "there, or are the same",
    )


def _near_zero(scores: ImageScores, layers: LayerScores) -> Finding | None:
    centre = layers.excess if layers.about == "excess" else layers.layermem
    alone = 1.96 * layers.se_images  # a pair has no other error
    low = np.where(np.isnan(layers.low), centre - alone, layers.low)
    high = np.where(np.isnan(layers.high), centre + alone, layers.high)
    if scores.memorized.any() or not ((low <= 0) & (high >= 0)).all():
        return None
    return Finding(
        "near zero",
        f"Scores are near zero in all {len(low)} layers: no 95 % interval of LayerMem leaves 0 out, and no image is "
        "called. Check that f was trained with the candidates and g without, and for how long",
    )


def _unreliable(scores: ImageScores, design: Design) -> Finding | None:
    found = float(scores.reliability[scores.output])
    if not found < MIN_RELIABILITY:
        return None
    needed = float(scores.encoders_for_08[scores.output])
    enough = f"{np.ceil(needed):.0f} encoders would give 0.8" if np.isfinite(needed) else "no number of encoders helps"
    return Finding(
        "unreliable",
        f"Scores vary between trainings: the ranking of images has a reliability of {found:.2f} with "
        f"{design.n_encoders} encoders ({enough})",
    )


def _levels(scores: ImageScores, design: Design) -> Finding | None:
    spread = float(scores.sd_levels[scores.output])
    difference = scores.sslmem[scores.output]
    effect = float(np.nanmean(difference[design.scored]))
    if design.has_control:
        effect -= float(np.nanmean(difference[design.control]))
    if not spread > abs(effect):
        return None
    return Finding(
        "levels above effect",
        f"Trainings differ in level by {spread:.3f} (standard deviation), more than the mean difference of "
        f"{effect:.3f}: without a control either sign could be chance",
    )
