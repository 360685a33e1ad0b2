"""Control of an audit in words, and the difference that is compared with it."""

from __future__ import annotations

import math

import numpy as np

from memkern.audit.run_folder.arrays import Floats, RunArrays
from memkern.audit.run_folder.significance import Significance

CANNOT_TELL = "This audit cannot tell memorization from a tighter encoder; add --groups or more encoders."
"""Headline of an audit without a control."""


def after_levels(data: RunArrays) -> bool:
    """True if p is about SSLMem after the levels of the trainings, which the column `sslmem` of a split keeps in."""
    found = data.significance
    return found is not None and found.design == "fixed" and found.levels_removed


def sslmem_of_p(data: RunArrays) -> Floats | None:
    """Computes the difference that p, q and the standard error are about, `[N]`; `None` without a reference.

    In a split whose trainings' levels were removed it is SSLMem minus the mean level of the g's plus that of the f's.
    """
    if data.sslmem is None or not after_levels(data):
        return data.sslmem
    level, role = np.array(data.encoders["level"], dtype=np.float64), np.array(data.encoders["role"])
    shift = float(level[role == "g"].mean() - level[role == "f"].mean())
    shifted: Floats = data.sslmem - shift
    return shifted


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
