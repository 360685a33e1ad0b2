"""Small helpers that several experiments share."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memkern._util.optional_imports import require
from memkern.lab.measure import Audit
from memkern.scores import sslmem_score


def center(values: Iterable[float]) -> float:
    """Returns the mean."""
    return statistics.fmean(values)


def spread(values: Iterable[float]) -> float:
    """Returns the standard deviation over seeds; 0 for one seed."""
    listed = list(values)
    return statistics.stdev(listed) if len(listed) > 1 else 0.0


def ratios(audit: Audit, tap: str, group: str = "candidate") -> Tensor:
    """Returns (A_g - A_f) / (A_g + A_f) of a group's images at a tap, `[N]`."""
    place = audit.of(group)
    return sslmem_score(audit.alignment_f[tap][place], audit.alignment_g[tap][place], "ratio")


def order(scores: Tensor) -> Tensor:
    """Returns the positions from the largest score to the smallest, ties by position."""
    return scores.argsort(descending=True, stable=True)


def overlap(a: Tensor, b: Tensor) -> float:
    """Returns the share of two equally long lists of ids that is in both, in percent."""
    return 100 * len(set(a.tolist()) & set(b.tolist())) / len(a)


def kendall(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Returns Kendall's tau-b of two lists of scores and its two-sided p-value; 0 and 1 if either is constant."""
    found = require("scipy.stats", "scipy", extra="lab").kendalltau(a.double().numpy(), b.double().numpy())
    if found.statistic != found.statistic:
        return 0.0, 1.0
    return float(found.statistic), float(found.pvalue)


def slope(values: Sequence[float]) -> float:
    """Returns Kendall's tau of a list with its positions: 1 if it only rises, -1 if it only falls."""
    return kendall(torch.arange(len(values)), torch.tensor(values))[0] if len(values) > 1 else 0.0


def lines(series: Mapping[str, Sequence[float]], x: Sequence[Any], *, xlabel: str, ylabel: str, title: str) -> Any:
    """Draws one line per series over common places."""
    figure = require("matplotlib.figure", "matplotlib", extra="lab").Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot([str(place) for place in x], values, "o-", label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=45)
    axes.legend(fontsize=8)
    return figure
