"""Verdict of an audit: what was found, in plain words, by rules that the report prints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memkern.audit.report.text import clean, probability, signed
from memkern.audit.run_folder.arrays import Floats, RunArrays
from memkern.audit.statistics import interval, resampled_means, welch

CLEAR_P, CLEAR_D, WEAK_P = 0.01, 0.5, 0.05
RULE = (
    f"“Clear signs”: the candidates score higher than the other images with p below {CLEAR_P} (one-sided Welch test) "
    f"and an effect size d of at least {CLEAR_D}. “Weak signs”: p below {WEAK_P}. Where candidates or others were not "
    "named, the interval of the mean must lie above 0 and the mean must be half a standard deviation or more (clear), "
    "or the interval must lie above 0 (weak)."
)
"""Rule by which a headline is chosen."""

HEADLINES = {
    "clear": "Clear signs that this encoder memorized some of the {who}.",
    "weak": "Weak signs that this encoder memorized some of the {who}.",
    "none": "No sign that this encoder memorized the {who}; with this many images, small effects stay unseen.",
}

UNMEASURED = (
    "How single images were memorized was not measured: there is no reference encoder.",
    "SSLMem and LayerMem compare the encoder with one that was trained without the images in question. "
    "Give one with --reference to measure them.",
    "UnitMem and ClassMem need no reference: they say how far one image, or one class, stands out in the "
    "activation of each unit. A high UnitMem alone does not prove that an image was memorized.",
)
"""Headline and sentences of an audit without a reference encoder."""

NO_CANDIDATES = (
    "The audit was not told which images only this encoder was trained on (--candidates), so the score is a "
    "mean over all images; those that both encoders saw, or neither, pull it towards 0."
)


@dataclass(frozen=True)
class Verdict:
    """Opening of a report: headline, sentences and big numbers.

    Attributes:
        level: "clear", "weak", "none" or "unmeasured".
        headline: One sentence.
        sentences: What stands behind it.
        facts: Big numbers: value, what it is, and a detail.
    """

    level: str
    headline: str
    sentences: list[str]
    facts: list[tuple[str, str, str]]


def verdict(data: RunArrays) -> Verdict:
    """Judges an audit by its tables."""
    if data.sslmem is None:
        return Verdict("unmeasured", UNMEASURED[0], list(UNMEASURED[1:]), _unit_facts(data))
    score = data.sslmem[data.scored]
    others = np.delete(data.sslmem, data.scored)
    who = "candidate images" if data.has_candidates else "images"
    low, high = (float(end[0]) for end in interval(resampled_means(score[:, None])))
    compared = data.has_candidates and len(others) >= 2
    level, evidence = _level(score, others if compared else None, low)
    mean = float(score.mean())
    closer = "closer together" if mean >= 0 else "farther apart"
    sentences = [
        f"On average it puts the views of one of the {len(score)} {who} {closer} than the reference encoder does: mean "
        f"SSLMem {signed(mean)} (95% interval {signed(low)} to {signed(high)})."
    ]
    if compared:
        sentences.append(_against_others(score, others, evidence))
    elif not data.has_candidates:
        sentences.append(NO_CANDIDATES)
    facts = [
        (signed(mean), "mean SSLMem", f"of {len(score)} {who}"),
        (f"{(score > 0).mean():.0%}", "score above 0", "0 = no difference to the reference"),
    ]
    delta = data.scored_column("delta")
    if np.isfinite(delta).any():
        best = int(np.nanargmax(delta))
        name, rise = clean(data.layers["layer"][best], 40), signed(float(delta[best]))
        sentences.append(f"From layer to layer, memorization rises most at {name} (Δ {rise}).")
        facts.append((clean(name, 24), "adds most", f"ΔLayerMem {rise}"))
    return Verdict(level, HEADLINES[level].format(who=who), sentences, [*facts, *_unit_facts(data)])


def _against_others(score: Floats, others: Floats, evidence: str) -> str:
    """Tells how the candidates' scores, `[N]`, lie among those of the other images, `[M]`."""
    above = int((score > float(np.quantile(others, 0.95))).sum())
    return (
        f"The {len(others)} other images average {signed(float(others.mean()))}; {evidence}. {above} candidates "
        f"({above / len(score):.0%}) score above 95% of the others."
    )


def _level(score: Floats, others: Floats | None, low: float) -> tuple[str, str]:
    """Judges by `RULE`.

    Args:
        score: SSLMem of the scored images, `[N]`.
        others: SSLMem of the other images, `[M]`, or `None` where there is nothing to compare with.
        low: Lower end of the interval of the scores' mean.

    Returns:
        "clear", "weak" or "none", and the words for the test, "" without one.
    """
    if others is None:
        deviation = float(score.std(ddof=1)) if len(score) > 1 else 0.0
        strong = deviation > 0 and float(score.mean()) / deviation >= CLEAR_D
        return ("none" if not low > 0 else "clear" if strong else "weak"), ""
    test = welch(others, score, "greater")
    level = "none"
    if test.p < WEAK_P:
        level = "clear" if test.p < CLEAR_P and test.d >= CLEAR_D else "weak"
    return level, f"the candidates score higher with {probability(test.p)}, effect size d = {signed(test.d, 2)}"


def _unit_facts(data: RunArrays) -> list[tuple[str, str, str]]:
    # a signed unit's score has no bounds: 0.5 says nothing of it
    units = np.concatenate([np.array([]), *(layer.unitmem[~layer.signed] for layer in data.units.values())])
    units = units[~np.isnan(units)]
    if not len(units):
        return []
    return [(f"{(units > 0.5).mean():.0%}", "of units above 0.5", f"UnitMem of {len(units):,} units")]
