"""Verdict of an audit: what may be said about memorization, in plain words; nothing of it without a control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memkern.audit.report.control import (
    control_words,
    headline,
    percent,
    says_something,
    what_is_scored,
)
from memkern.audit.report.text import clean, probability, signed
from memkern.audit.report.text import score as plain
from memkern.audit.run_folder.arrays import Floats, Ints, RunArrays
from memkern.families import exchange_of_group, group_test, images_above_all_controls

RULE = (
    "Without p-values there is no verdict. They need a control: images that all trainings saw or none did, or "
    "trainings on different subsets, so that each image has trainings with and without it. An image is memorized if "
    "its q, the false-discovery rate at which it would be called (Benjamini and Hochberg, over the scored images), is "
    "at most the rate of the audit (--fdr)."
)
"""Rule by which a headline is chosen."""

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

MIN_GROUP = 10
"""Images on either side that a test of the whole group takes."""


@dataclass(frozen=True)
class Verdict:
    """Opening of a report: headline, sentences and big numbers.

    Attributes:
        level: "memorized", "none", "untold" or "unmeasured".
        headline: One sentence.
        sentences: What stands behind it.
        facts: Big numbers: value, what it is, and a detail.
    """

    level: str
    headline: str
    sentences: list[str]
    facts: list[tuple[str, str, str]]


def verdict(data: RunArrays, output: str | None = None) -> Verdict:
    """Judges an audit by its tables.

    Args:
        data: The tables.
        output: Name of the layer at which SSLMem was measured; default: the last one.

    Returns:
        The verdict; it says nothing of memorization where there was no control.
    """
    if data.sslmem is None:
        return Verdict("unmeasured", UNMEASURED[0], list(UNMEASURED[1:]), _unit_facts(data))
    rows = data.scored[np.isfinite(data.sslmem[data.scored])]
    sentences, facts = _means(data, data.sslmem, rows)
    if data.significance is not None:
        sentences += _behind(data, data.sslmem, rows, output)
    elif not data.has_candidates:
        sentences.append(NO_CANDIDATES)
    delta = data.scored_column("delta")
    if np.isfinite(delta).any():
        best = int(np.nanargmax(delta))
        name, rise = clean(data.layers["layer"][best], 40), signed(float(delta[best]))
        sentences.append(f"From layer to layer, LayerMem rises most at {name} (Δ {rise}).")
        facts.append((clean(name, 24), "adds most", f"ΔLayerMem {rise}"))
    return Verdict(_level(data), headline(data.significance), sentences, [*facts, *_unit_facts(data)])


def _level(data: RunArrays) -> str:
    found = data.significance
    if found is None or not says_something(found):
        return "untold"
    if found.n_memorized:
        return "memorized"
    conformal = found.method == "conformal"
    few = conformal and images_above_all_controls(found.n_scored, found.n_control, found.fdr) > 1
    return "untold" if few else "none"


def _means(data: RunArrays, sslmem: Floats, rows: Ints) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Sentence and numbers of the mean SSLMem of the scored images."""
    found, control = data.significance, data.control
    if not len(rows):
        return ["No image could be scored."], []
    who = what_is_scored(found) if data.has_candidates or found is not None else "images"
    mean = float(sslmem[rows].mean())
    sentence = f"Mean SSLMem of the {len(rows):,} {who}: {signed(mean)}"
    if len(control):
        sentence += f", of the {len(control):,} control images {signed(float(np.nanmean(sslmem[control])))}"
    facts = [(signed(mean), "mean SSLMem", f"of {len(rows):,} {who}")]
    if found is not None and _level(data) in ("memorized", "none"):
        at = f"of {found.n_scored:,} {who} at a false-discovery rate of {percent(found.fdr)}"
        facts.insert(0, (f"{found.n_memorized:,}", "memorized", at))
    if found is not None and found.reliability is not None:
        facts.append((f"{found.reliability:.2f}", "reliability", "of the ranking of images, from 0 to 1"))
    return [f"{sentence}."], facts


def _behind(data: RunArrays, sslmem: Floats, rows: Ints, output: str | None) -> list[str]:
    """Lists what the headline rests on: the control, why there is no verdict, the other method, excess and group."""
    found, control = data.significance, data.control
    assert found is not None
    sentences = [control_words(found)]
    reasons = [part for part in found.reason.split("; ") if part and part not in found.verdict]
    sentences += [f"{part[0].upper()}{part[1:]}." for part in reasons]
    if not says_something(found):
        return sentences
    if found.n_check is not None:
        sentences.append(f"Another method that assumes less ({found.check}) calls {found.n_check:,}.")
    sentences += _excess(data, output)
    return sentences + _group(data, sslmem, rows, control[np.isfinite(sslmem[control])])


def _group(data: RunArrays, sslmem: Floats, rows: Ints, control: Ints) -> list[str]:
    """Tells how the scored images compare with the control as a group, by exchanging labels as groups were drawn."""
    if min(len(rows), len(control)) < MIN_GROUP:
        return []
    both = np.concatenate([rows, control])
    group = np.isin(both, rows)
    exchange = exchange_of_group(
        group,
        pictures=[data.picture[row] or data.ids[row] for row in both] if any(data.picture) else None,
        labels=None if data.labels is None else data.labels[both],
        folders=[data.ids[row].rpartition("/")[0] for row in both],
    )
    test = group_test(sslmem[both], group, strata=exchange.strata, pictures=exchange.pictures)
    what = "whole pictures" if exchange.pictures is not None else "images"
    where = {"picture": " within pictures", "label": " within classes", "folder": " within folders"}
    return [
        f"As a group, the {what_is_scored(data.significance)} against the control: {probability(test.p)} (one-sided, "
        f"that they score higher; {what} exchanged{where.get(exchange.within, '')})."
    ]


def _excess(data: RunArrays, output: str | None) -> list[str]:
    """LayerMem at the output beyond that of the control, with its error."""
    names = ("layermem_excess", "low", "high", "se_images")
    place = -1 if output is None else data.layers["layer"].index(output)
    excess, low, high, se_images = (float(data.column(name)[place]) for name in names)
    if not np.isfinite(excess):
        return []
    text = f"LayerMem at the output exceeds that of the control by {signed(excess)}"
    if not np.isfinite(float(data.column("layermem_control")[place])):
        text = f"LayerMem at the output is {signed(excess)}, where 0 is no memorization"
    if np.isfinite(low):
        return [f"{text} (95% interval {signed(low)} to {signed(high)}, over images and trainings)."]
    if np.isfinite(se_images):
        return [f"{text} ± {plain(se_images)} over images alone; one training in a role has no error."]
    return [f"{text}."]


def _unit_facts(data: RunArrays) -> list[tuple[str, str, str]]:
    # a signed unit's score has no bounds: 0.5 says nothing of it
    units = np.concatenate([np.array([]), *(layer.unitmem[~layer.signed] for layer in data.units.values())])
    units = units[~np.isnan(units)]
    if not len(units):
        return []
    return [(f"{(units > 0.5).mean():.0%}", "of units above 0.5", f"UnitMem of {len(units):,} units")]
