"""What an audit found, in plain words, by rules that the report prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memkern.audit.report.svg import clean
from memkern.audit.run_folder.arrays import Readings
from memkern.audit.statistics import interval, resampled_means, welch

CLEAR_P, CLEAR_D, WEAK_P = 0.01, 0.5, 0.05
RULE = (
    f"“Clear signs”: the candidates score higher than the other images with p below {CLEAR_P} (one-sided Welch test) "
    f"and an effect size d of at least {CLEAR_D}. “Weak signs”: p below {WEAK_P}. Where candidates or others were not "
    "named, the interval of the mean must lie above 0 and the mean must be half a standard deviation or more (clear), "
    "or the interval must lie above 0 (weak)."
)
"""How a headline is chosen."""


@dataclass(frozen=True)
class Verdict:
    """The opening of a report.

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


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a true minus."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def probability(p: float) -> str:
    """A p-value as people write it."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def verdict(run: Any, data: Readings) -> Verdict:
    """Judges an audit.

    Args:
        run: The audit.
        data: Its tables.

    Returns:
        The verdict.
    """
    if data.sslmem is None:
        return Verdict(
            "unmeasured",
            "How single images were memorized was not measured: there is no reference encoder.",
            [
                "SSLMem and LayerMem compare the encoder with one that was trained without the images in question. "
                "Give one with --reference to measure them.",
                "UnitMem and ClassMem need no reference: they say how far one image, or one class, stands out in the "
                "activation of each unit. A high UnitMem alone does not prove that an image was memorized.",
            ],
            _unit_facts(data),
        )
    rows = data.scored
    score = data.sslmem[rows]
    others = np.delete(data.sslmem, rows)
    who = "candidate images" if data.has_candidates else "images"
    mean = float(score.mean())
    low, high = (float(end[0]) for end in interval(resampled_means(score[:, None])))
    compared = data.has_candidates and len(others) >= 2
    level, evidence = _level(score, others if compared else None, low)
    headline = {
        "clear": f"Clear signs that this encoder memorized some of the {who}.",
        "weak": f"Weak signs that this encoder memorized some of the {who}.",
        "none": f"No sign that this encoder memorized the {who}; with this many images, small effects stay unseen.",
    }[level]
    closer = "closer together" if mean >= 0 else "farther apart"
    sentences = [
        f"On average it puts the views of one of the {len(score)} {who} {closer} than the reference encoder does: mean "
        f"SSLMem {signed(mean)} (95% interval {signed(low)} to {signed(high)})."
    ]
    if compared:
        bar = float(np.quantile(others, 0.95))
        above = int((score > bar).sum())
        sentences.append(
            f"The {len(others)} other images average {signed(float(others.mean()))}; {evidence}. {above} candidates "
            f"({above / len(score):.0%}) score above 95% of the others."
        )
    elif not data.has_candidates:
        sentences.append(
            "The audit was not told which images only this encoder was trained on (--candidates), so the score is a "
            "mean over all images; those that both encoders saw, or neither, pull it towards 0."
        )
    delta = data.scored_column("delta")
    facts = [
        (signed(mean), "mean SSLMem", f"of {len(score)} {who}"),
        (f"{(score > 0).mean():.0%}", "score above 0", "0 = no difference to the reference"),
    ]
    if np.isfinite(delta).any():
        best = int(np.nanargmax(delta))
        name = clean(data.layers["layer"][best], 40)
        sentences.append(f"From layer to layer, memorization rises most at {name} (Δ {signed(float(delta[best]))}).")
        facts.append((clean(name, 24), "adds most", f"ΔLayerMem {signed(float(delta[best]))}"))
    return Verdict(level, headline, sentences, [*facts, *_unit_facts(data)])


def _level(score: NDArray[np.float64], others: NDArray[np.float64] | None, low: float) -> tuple[str, str]:
    if others is None:
        deviation = float(score.std(ddof=1)) if len(score) > 1 else 0.0
        strong = deviation > 0 and float(score.mean()) / deviation >= CLEAR_D
        return ("none" if not low > 0 else "clear" if strong else "weak"), ""
    test = welch(others, score, "greater")
    level = "none"
    if test.p < WEAK_P:
        level = "clear" if test.p < CLEAR_P and test.d >= CLEAR_D else "weak"
    return level, f"the candidates score higher with {probability(test.p)}, effect size d = {signed(test.d, 2)}"


def _unit_facts(data: Readings) -> list[tuple[str, str, str]]:
    # a signed unit's score has no bounds: 0.5 says nothing of it
    units = np.concatenate([np.array([]), *(layer.unitmem[~layer.signed] for layer in data.units.values())])
    units = units[~np.isnan(units)]
    if not len(units):
        return []
    return [(f"{(units > 0.5).mean():.0%}", "of units above 0.5", f"UnitMem of {len(units):,} units")]
