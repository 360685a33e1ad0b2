"""Words for what an audit may say about memorization, and what it would need where it may say nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memkern.families.design import Design
from memkern.families.images import ImageScores
from memkern.families.p_values import benjamini_hochberg


@dataclass(frozen=True)
class Verdict:
    """Conclusion from the scores of images at the output.

    Attributes:
        n_memorized: How many scored images are memorized at the false-discovery rate; None where nothing can be said.
        n_scored: How many images are scored.
        n_check: How many the other method calls; None where there is none.
        reason: Why nothing can be said, or why single images cannot be named; "" otherwise.
        sentence: The verdict in words.
    """

    n_memorized: int | None
    n_scored: int
    n_check: int | None
    reason: str
    sentence: str


def verdict(scores: ImageScores, design: Design) -> Verdict:
    """Says how many images are memorized, at which false-discovery rate; never without a control.

    Args:
        scores: Of `image_scores`.
        design: The design they were made with.

    Returns:
        The verdict, with its sentence.
    """
    scored = int(design.scored.sum())
    if not np.isfinite(scores.p[scores.output]).any():
        reason = scores.reason or "the alignments of the output do not vary between trainings"
        sentence = "This audit cannot tell memorization from a tighter encoder; add groups or more encoders."
        return Verdict(None, scored, None, reason, sentence)
    named = int(scores.memorized.sum())
    has_check = bool(np.isfinite(scores.p_check).any())
    check = int((np.nan_to_num(benjamini_hochberg(scores.p_check), nan=np.inf) <= scores.fdr).sum())
    what = "candidates" if design.kind == "fixed" else "images"
    sentence = f"{named} of {scored} {what} are memorized at a false-discovery rate of {scores.fdr:.0%}."
    reason = ""
    if scores.method == "conformal" and named == 0:
        controls = int(design.control.sum())
        together = images_above_all_controls(scored, controls, scores.fdr)
        if together > 1:
            needed = controls_to_name_one(scored, scores.fdr)
            reason = (
                f"too few control images to name single ones: with {controls} controls at least {together} of {scored} "
                f"{what} must lie above every control; to name one takes {needed} controls"
            )
            sentence = f"No single image can be named: {reason}."
    return Verdict(named, scored, check if has_check else None, reason, sentence)


def images_above_all_controls(scored: int, controls: int, fdr: float = 0.05) -> int:
    """Number of images that must lie above every control before conformal p-values call any.

    k of C images above all of n controls reach a q of `C / (k (n + 1))` at best.

    Args:
        scored: C, the scored images.
        controls: n, the control images.
        fdr: The false-discovery rate.

    Returns:
        The number of images, 1 or more.

    Example:
        >>> images_above_all_controls(30, 100), images_above_all_controls(300, 100)
        (6, 60)
    """
    return max(1, math.ceil(scored / (fdr * (controls + 1)) - 1e-9))


def controls_to_name_one(scored: int, fdr: float = 0.05) -> int:
    """Number of control images with which conformal p-values can call a single scored image.

    Args:
        scored: How many images are scored.
        fdr: The false-discovery rate.

    Returns:
        The number of control images.

    Example:
        >>> controls_to_name_one(30)
        599
    """
    return math.ceil(scored / fdr - 1e-9) - 1
