"""Certainty of an audit: p, q and errors of images and layers, levels of the trainings, and the auditor's block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkern.audit.measure.alignments import Alignments, output_alignments
from memkern.audit.report import certainty_charts, charts
from memkern.audit.report.certainty_words import sentences
from memkern.audit.report.control import after_levels, percent, sslmem_of_p
from memkern.audit.report.gallery import error_of
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.run_folder.arrays import Floats, Ints, RunArrays
from memkern.audit.run_folder.columns import ATTACKS
from memkern.families import roc
from memkern.families.attack import attack_sides
from memkern.families.roc import interval_of_mean

MAX_IMAGES, MAX_ENCODERS, MAX_CURVES, MAX_RELIABILITY = 20, 24, 16, 60
MIN_ENCODERS = 3
"""With two encoders the picture of encoders x images repeats SSLMem."""

RATES = np.logspace(-3, 0, 31)
"""False-positive rates of the curves."""


@dataclass(frozen=True)
class ImageRow:
    """A row of the table of images; NaN is shown as a dash.

    Attributes:
        name: Id of the image.
        score: SSLMem, after levels where p is about that.
        error: Its standard error over trainings and views.
        p: One-sided p.
        q: False-discovery rate at which the image is called.
        n_in: How many trainings saw the image.
        n_out: How many did not.
        called: Whether q is at most the rate of the audit.
    """

    name: str
    score: float
    error: float
    p: float
    q: float
    n_in: int
    n_out: int
    called: bool


def _shown(context: ReportContext) -> bool:
    return context.data.significance is not None


def _data(context: ReportContext) -> Mapping[str, object]:
    data = context.data
    found = data.significance
    assert found is not None
    order, fdr = _by_q(data), percent(found.fdr)
    alignments = output_alignments(context.run, data)
    return {
        "sentences": sentences(data, _leaked(context)),
        "heat_map": "" if alignments is None else _heat_map(data, alignments, order, fdr),
        "volcano": _volcano(data, order, fdr),
        "images": _images(data, order[:MAX_IMAGES]),
        "n_images": len(order),
        "reliability": _reliability(data),
        "layers": _layer_rows(data),
        "levels": _levels(data),
        "encoders": _encoder_rows(data),
        "n_encoders": len(data.encoders.get("encoder", [])),
        "attacks": _attack_rows(data),
        "roc": "" if alignments is None else _roc(data, alignments),
        "fdr": fdr,
    }


def _leaked(context: ReportContext) -> int:
    """Counts the near copies of members that an encoder did not see."""
    samples = context.run.samples
    return len(samples) - samples["leaked_by"].null_count if "leaked_by" in samples.column_names else 0


def _by_q(data: RunArrays) -> Ints:
    """Rows of the images that have a p, by ascending q, then p."""
    score = sslmem_of_p(data)
    if data.p is None or data.q is None or score is None:
        return np.array([], dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(data.p) & np.isfinite(data.q) & np.isfinite(score))
    return rows[np.lexsort((-score[rows], data.p[rows], data.q[rows]))]


def _called(data: RunArrays, rows: Ints) -> NDArray[np.bool_]:
    return np.zeros(len(rows), dtype=np.bool_) if data.memorized is None else data.memorized[rows]


def _images(data: RunArrays, rows: Ints) -> list[ImageRow]:
    score, error = sslmem_of_p(data), error_of(data)
    if score is None or data.p is None or data.q is None:
        return []
    n_in, n_out = (np.zeros(len(data.ids), dtype=np.int64) if n is None else n for n in (data.n_in, data.n_out))
    return [
        ImageRow(
            name=data.ids[row],
            score=float(score[row]),
            error=float(error[row]),
            p=float(data.p[row]),
            q=float(data.q[row]),
            n_in=int(n_in[row]),
            n_out=int(n_out[row]),
            called=bool(_called(data, np.array([row]))[0]),
        )
        for row in rows
    ]


def _heat_map(data: RunArrays, alignments: Alignments, order: Ints, fdr: str) -> str:
    if len(alignments.encoders) < MIN_ENCODERS or not len(order):
        return ""
    known = np.where(alignments.design.membership < 0, np.nan, alignments.values)
    known = known - np.nanmedian(known[order], axis=0)  # a training's level would color its whole row
    chosen = charts.evenly_spaced(len(alignments.encoders), MAX_ENCODERS)
    rows = order[: max(certainty_charts.CELLS.values())]
    closer = (np.nanmean(known[rows], axis=1, keepdims=True) - known[rows])[:, chosen].T
    member = (alignments.design.membership[rows] == 1)[:, chosen].T
    names, called = [alignments.encoders[k] for k in chosen], int(_called(data, rows).sum())
    return charts.both_widths(lambda width: certainty_charts.heat_map(closer, member, names, called, fdr, width=width))


def _volcano(data: RunArrays, order: Ints, fdr: str) -> str:
    score = sslmem_of_p(data)
    if score is None or data.p is None or not len(order):
        return ""
    own, p, called = score[order], data.p[order], _called(data, order)
    name = "SSLMem after levels" if after_levels(data) else "SSLMem"
    return charts.both_widths(lambda width: certainty_charts.volcano(own, p, called, fdr, name, width=width))


def _reliability(data: RunArrays) -> str:
    values = data.column("reliability")
    if not np.isfinite(values).any():
        return ""
    chosen = charts.evenly_spaced(len(values), MAX_RELIABILITY)
    names = [str(data.layers["layer"][place]) for place in chosen]
    return charts.both_widths(lambda width: certainty_charts.reliability(names, values[chosen], width=width))


LAYER_COLUMNS = (
    "layermem_excess", "se", "se_images", "se_encoders", "n_memorized", "reliability", "level_sd", "member_peaks",
    "member_peaks_expected", "member_peaks_p",
)  # fmt: skip


def _layer_rows(data: RunArrays) -> list[dict[str, object]]:
    columns = {name: data.column(name) for name in LAYER_COLUMNS}
    return [
        {"name": str(name), **{key: float(values[place]) for key, values in columns.items()}}
        for place, name in enumerate(data.layers["layer"])
    ]


def _levels(data: RunArrays) -> str:
    values = _numbers(data.encoders.get("level", []))
    if not np.isfinite(values).any():
        return ""
    names = [str(name) for name in data.encoders["encoder"]]
    roles = _roles(data)
    return charts.both_widths(lambda width: certainty_charts.levels(names, roles, values, width=width))


def _numbers(values: Sequence[object]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _roles(data: RunArrays) -> list[str]:
    return [role if role in ("f", "g") else "" for role in data.encoders["role"]]


def _encoder_rows(data: RunArrays) -> list[dict[str, object]]:
    table = data.encoders
    keys = [key for key in table if key not in ("encoder", "role")]
    columns = {key: _numbers(table[key]) for key in keys}
    names = table.get("encoder", [])
    return [
        {
            "name": str(names[place]),
            **{key: float(values[place]) for key, values in columns.items()},
        }
        for place in charts.evenly_spaced(len(names), MAX_ENCODERS)
    ]


@dataclass(frozen=True)
class Rate:
    """Mean over trainings of an area or a rate, with the ends of its 95 % interval; NaN is shown as a dash."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AttackRow:
    """A row of the table of attacks: by what, over how many trainings, the area under the curve and the rates."""

    name: str
    count: int
    rates: tuple[Rate, ...]


ATTACK_NAMES = {
    "alignment": "its own alignment",
    "sslmem": "SSLMem: closer than where the image is out",
    "lira": "likelihood ratio against the others",
}


def _attack_rows(data: RunArrays) -> list[AttackRow]:
    """The means over trainings of each attack; of one training its own interval."""
    rows = []
    for attack, names in ATTACKS.items():
        columns = np.stack([_numbers(data.encoders.get(name, [])) for name in names], 1)  # [K, 12]
        known = columns[np.isfinite(columns[:, 0])].reshape(-1, 4, 3)
        if not len(known):
            continue
        value, low, high = np.moveaxis(known, 2, 0)
        ends = interval_of_mean(value, low, high) if len(known) > 1 else (low[0], high[0])
        rates = tuple(Rate(*map(float, each)) for each in zip(value.mean(0), *ends, strict=True))
        rows.append(AttackRow(ATTACK_NAMES[attack], len(known), rates))
    return rows


def _roc(data: RunArrays, alignments: Alignments) -> str:
    attacked = [k for k, role in enumerate(_roles(data)) if role != "g"]
    curves = []
    for k in [attacked[i] for i in charts.evenly_spaced(len(attacked), MAX_CURVES)]:
        members, others = (-alignments.values[rows, k] for rows in attack_sides(alignments.design, k))
        rates = RATES[RATES * len(others) >= 1]
        if len(members) and len(rates) > 1:
            found = roc(members, others, fpr=tuple(rates.tolist()))
            curves.append(
                certainty_charts.Curve(alignments.encoders[k], rates, found.tpr, found.low, found.high, found.auc)
            )
    return charts.both_widths(lambda width: certainty_charts.roc(curves, width=width)) if curves else ""


SECTION = Section("certainty", "How sure", order=25, data=_data, shown=_shown)
