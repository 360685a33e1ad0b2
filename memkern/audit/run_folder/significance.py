"""Record of how sure the scores of an audit are."""

from __future__ import annotations

from dataclasses import dataclass

from memkern._util.records import Record


@dataclass(frozen=True)
class Significance(Record):
    """Certainty of the scores of images over trainings, and what may be said of them.

    Attributes:
        design: "fixed": all encoders saw one of two sets of images, f's and g's; or "varying".
        control: Group of images that nobody memorized and scored ones are compared with: "extra", "shared" or "none".
        n_scored: How many images have scores over trainings.
        n_control: How many images are in the control group.
        method: How p was found: "moderated t", "conformal", or "none".
        check: How p_check was found: "permutation", "conformal", or "none".
        reason: Why there is no p or no standard error, or why no single image can be named; "" if there is all of it.
        fdr: False-discovery rate at which images are called memorized.
        levels_removed: Whether what each training shifts all of its alignments by was taken off.
        n_memorized: How many images are called memorized; `None` where nothing can be said.
        n_check: How many p_check calls; `None` where there is none.
        verdict: What may be said, in one sentence.
        reliability: Share of the variance of SSLMem over scored images, at the output, that other trainings would show
            again; `None` where it is unknown.
        encoders_for_08: How many encoders a reliability of 0.8 takes; `None` where it is unknown or out of reach.
        unscored_nan: How many images were left out because an encoder gave NaN.
        findings: Signs that a study of memorization fails, one sentence each: scores near zero everywhere, collapse,
            variance between trainings.
    """

    design: str
    control: str
    n_scored: int
    n_control: int
    method: str
    check: str
    reason: str
    fdr: float
    levels_removed: bool
    n_memorized: int | None
    n_check: int | None
    verdict: str
    reliability: float | None
    encoders_for_08: float | None
    unscored_nan: int
    findings: tuple[str, ...] = ()
