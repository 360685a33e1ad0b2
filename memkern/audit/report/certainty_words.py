"""Sentences of the report about how sure an audit is."""

from __future__ import annotations

import math

import numpy as np

from memkern.audit.report.control import control_words, percent, says_something, what_is_scored
from memkern.audit.report.text import clean, probability
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.significance import Significance
from memkern.families import controls_to_name_one, images_above_all_controls

METHODS = {
    "moderated t": (
        "p is a moderated t over trainings: each image’s own variance between trainings, drawn towards that of all "
        "images. It assumes independent trainings, noise that is about normal and of one size with and without an "
        "image, and a level of a training that shifts all images alike."
    ),
    "conformal": (
        "p is conformal: the share of control images that score at least as high. It assumes that the control and the "
        "candidates that are not memorized are exchangeable: of one source, drawn at random. Controls that are easier "
        "than the candidates break it."
    ),
}
"""How p was found, and what it assumes."""


def sentences(data: RunArrays, n_leaked: int) -> list[str]:
    """Says how p was found, what it assumes and misses, and how many encoders or controls more certainty takes.

    Args:
        data: The tables of an audit with `significance`.
        n_leaked: How many images that an encoder did not see are near copies of its members.

    Returns:
        The sentences.
    """
    found = data.significance
    assert found is not None
    told = [control_words(found)]
    if found.method in METHODS:
        told.append(METHODS[found.method])
        told.append(
            f"q is the false-discovery rate at which an image would be called (Benjamini and Hochberg over the "
            f"{found.n_scored:,} scored images); an image counts as memorized if its q is at most {percent(found.fdr)}."
        )
    else:
        told.append(f"There is no p: {found.reason or 'the audit has no control'}.")
    if says_something(found):
        told.append(_counts(found))
    told += _few_controls(found)
    told.append(_errors(data, found))
    if found.reliability is not None and math.isfinite(found.reliability):
        told.append(_reliability(found, len(data.encoders.get("encoder", [])) or 2))
    if found.levels_removed:
        told.append("The levels of the trainings were taken out of the scores.")
    if found.unscored_nan:
        told.append(f"{found.unscored_nan:,} images were not scored because an encoder gave NaN.")
    told += [f"{sentence}." for sentence in found.findings]
    told += _member_peaks(data)
    if n_leaked:
        told.append(
            f"{n_leaked:,} images that an encoder did not see are near copies of images that it saw; they leak, which "
            "hides memorization and does not feign it."
        )
    return told


def _counts(found: Significance) -> str:
    text = f"{found.n_memorized:,} of {found.n_scored:,} {what_is_scored(found)} are called"
    if found.n_check is None:
        return f"{text}; no second method fits this design."
    return f"{text}; the second method ({found.check}), which assumes less, calls {found.n_check:,}."


def _few_controls(found: Significance) -> list[str]:
    """Says what it would take to name single images where conformal p-values cannot."""
    if found.method != "conformal":
        return []
    together = images_above_all_controls(found.n_scored, found.n_control, found.fdr)
    if together <= 1 or found.n_memorized:
        return []
    return [
        f"Too few control images to name single ones: with {found.n_control:,} of them, {together:,} of the "
        f"{found.n_scored:,} candidates would have to lie above every control. Naming a single one takes "
        f"{controls_to_name_one(found.n_scored, found.fdr):,} control images, or more trainings."
    ]


def _member_peaks(data: RunArrays) -> list[str]:
    """Tells of the layer whose units answer most clearly to images that their encoder saw."""
    p = data.column("member_peaks_p")
    if not np.isfinite(p).any():
        return []
    best = int(np.nanargmin(p))
    share, expected = (float(data.column(name)[best]) for name in ("member_peaks", "member_peaks_expected"))
    return [
        f"Of the units of {clean(data.layers['layer'][best], 40)}, {share:.0%} answer most to an image that their "
        f"encoder saw; {expected:.0%} would, if membership meant nothing ({probability(float(p[best]))}, images "
        f"exchanged; the smallest p of {int(np.isfinite(p).sum())} layers)."
    ]


def _errors(data: RunArrays, found: Significance) -> str:
    if data.se is not None:
        return (
            "± of an image is the root of its variance over trainings (se) and over views (se_views). p does without "
            "the views’ part, which cancels where nothing is memorized."
        )
    encoders = len(data.encoders.get("encoder", [])) or 2
    if encoders == 2:
        return (
            "There is no standard error of an image: one training with it and one without it cannot show how much "
            "trainings differ. It takes two on each side, or one and three."
        )
    return f"There is no standard error of an image{f': {found.reason}' if found.reason else ''}."


def _reliability(found: Significance, encoders: int) -> str:
    assert found.reliability is not None
    text = (
        f"The reliability of the ranking of images is {found.reliability:.2f}: the share of the variance between "
        f"them that other {encoders} encoders would show again."
    )
    needed = found.encoders_for_08
    if needed is None or not math.isfinite(needed):
        return f"{text} No number of encoders is known to raise it."
    return f"{text} A reliability of 0.8 takes about {max(2, math.ceil(needed)):,} encoders."
