"""Failures that a family of encoders can show, by name: scores near zero, collapse, variance between trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from memkern.errors import ArgumentValueError
from memkern.families.design import Design
from memkern.families.images import ImageScores
from memkern.families.layers import LayerScores

MIN_RELIABILITY = 0.5
"""Below this, less than half of the spread of scores would show again with other trainings."""


MIN_LATER = 3
"""So many measurements after the highest accuracy must show more memorization."""


@dataclass(frozen=True)
class Finding:
    """A failure that numbers show.

    Attributes:
        name: Of the failure.
        sentence: What was found, and what to look at.
    """

    name: Literal["collapsed", "near zero", "unreliable", "levels above effect", "grows without accuracy"]
    sentence: str


def grows_without_accuracy(epochs: ArrayLike, memorization: ArrayLike, accuracy: ArrayLike) -> Finding | None:
    """Looks whether a training memorizes more and more while its accuracy does not rise any more.

    That is found where three measurements or more came after the one with the highest accuracy, and each of them has
    more memorization than it. One training has no error over trainings: this is a sign and not a test.

    Args:
        epochs: `[T]`, when it was measured, ascending.
        memorization: `[T]`, memorization beyond a control, LayerMem's excess say.
        accuracy: `[T]`, on images that the training did not see; larger is better. NaN where it is unknown.

    Returns:
        The finding, or None.

    Raises:
        ArgumentValueError: If the shapes differ.

    Example:
        >>> found = grows_without_accuracy([0, 1, 2, 3], [0.0, 0.1, 0.2, 0.3], [0.6, 0.5, 0.6, 0.4])
        >>> found.name
        'grows without accuracy'
    """
    when, excess, right = (np.asarray(each, dtype=np.float64) for each in (epochs, memorization, accuracy))
    if when.ndim != 1 or not when.shape == excess.shape == right.shape:
        shapes = f"{list(when.shape)}, {list(excess.shape)} and {list(right.shape)}"
        raise ArgumentValueError(f"Expected `epochs`, `memorization` and `accuracy` of one shape [T], got {shapes}")
    known = np.isfinite(excess) & np.isfinite(right)
    when, excess, right = when[known], excess[known], right[known]
    best = int(right.argmax()) if len(right) else 0
    later = excess[best + 1 :]
    if len(later) < MIN_LATER or not (later > excess[best]).all():
        return None
    return Finding(
        "grows without accuracy",
        f"Memorization grows while accuracy does not: it rose from {excess[best]:.3f} to {excess[-1]:.3f} since epoch "
        f"{when[best]:g}, where the accuracy was highest ({right[best]:.3f})",
    )


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
