"""What scored images are compared with, in numbers and in words."""

from __future__ import annotations

import math

import numpy as np

from memkern.audit.run_folder.arrays import Ints, RunArrays
from memkern.audit.run_folder.schema import Significance

CANNOT_TELL = "This audit cannot tell memorization from a tighter encoder; add --groups or more encoders."
"""Headline of an audit without a control."""


def control_rows(data: RunArrays) -> Ints:
    """Finds the rows of the control images; none in a design that varies by image, or without a control group."""
    name = "none" if data.significance is None else data.significance.control
    return np.flatnonzero([name != "none" and group == name for group in data.group])


def says_something(found: Significance | None) -> bool:
    """True if an audit may say that images are memorized, or that none is: only p-values against a control allow it."""
    return found is not None and found.method != "none" and found.n_memorized is not None


def headline(found: Significance | None) -> str:
    """Returns the one sentence that an audit with a reference, or with several trainings, says about memorization."""
    return found.verdict if found is not None and says_something(found) else CANNOT_TELL


def control_words(found: Significance) -> str:
    """Tells in one sentence what the scored images are compared with, and how many images that are."""
    if found.design == "varying":
        return (
            f"Control: each of the {found.n_scored:,} images itself, by the trainings that did not see it; no other "
            "images are needed."
        )
    seen = {"extra": "which no training saw", "shared": "which every training saw"}.get(found.control)
    if seen is None:
        return "Control: none, 0 images."
    return f"Control: {found.n_control:,} {found.control} images, {seen}."


def what_is_scored(found: Significance | None) -> str:
    """Returns the word for the scored images."""
    return "images" if found is not None and found.design == "varying" else "candidates"


def percent(share: float) -> str:
    """Writes a share such as a false-discovery rate as people do."""
    return f"{100 * share:.3g}%" if math.isfinite(share) else "–"
