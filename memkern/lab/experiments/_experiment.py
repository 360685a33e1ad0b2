"""Experiments: the records of one and of its result, and the rule by which a finding holds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memkern._util.optional_imports import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memkern.lab.experiments._context import ExperimentContext

Row = dict[str, Any]
RULE = (
    "Each finding is one number per seed, positive if the finding holds there. **holds**: 3 seeds or more, mean "
    "above 0, one-sided t-test over the seeds p < 0.05. **does not hold**: the same with the other sign. "
    "**too small to tell**: anything else. No correction for the number of findings on a page."
)


@dataclass(frozen=True)
class Result:
    """Result of a run of an experiment.

    Attributes:
        rows: Our table, one mapping per row with the experiment's columns.
        effects: Finding -> its number for each seed.
        figure: The figure, if the paper has one.
        notes: What a reader must know beside the numbers.
    """

    rows: list[Row]
    effects: dict[str, list[float]]
    figure: Figure | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Experiment:
    """Experiment: a table or figure of the papers.

    Attributes:
        id: Name on the command line.
        covers: Entries of the catalogue that the experiment makes.
        title: One line.
        inputs: What the experiment needs: data sets and trained encoders, in words.
        columns: The columns of our table.
        findings: Name -> what the paper found, in one sentence.
        published: The numbers of the paper, one mapping per row; empty where none are known.
        run: Makes the result.
    """

    id: str
    covers: tuple[str, ...]
    title: str
    inputs: str
    columns: tuple[str, ...]
    findings: Mapping[str, str]
    published: Sequence[Row]
    run: Callable[[ExperimentContext], Result]

    @property
    def name(self) -> str:
        """The id, by which the registry of experiments knows it."""
        return self.id


def p_value(effects: Sequence[float]) -> float:
    """Returns the p-value of the one-sided t-test "the mean is above 0"; NaN for fewer than 3 numbers.

    Numbers without any spread decide by their sign.
    """
    if len(effects) < 3 or not all(math.isfinite(effect) for effect in effects):
        return math.nan
    if statistics.stdev(effects) == 0:
        return 0.5 if effects[0] == 0 else float(effects[0] < 0)
    return float(require("scipy.stats", "scipy", extra="lab").ttest_1samp(effects, 0.0, alternative="greater").pvalue)


def verdict(effects: Sequence[float]) -> str:
    """Applies `RULE`."""
    p = p_value(effects)
    if p < 0.05:
        return "holds"
    return "does not hold" if p > 0.95 else "too small to tell"
