"""The means of two audits, what their differences are worth, and how alike their rankings are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memkern.audit.compare.records import Agreement, Difference, LayerDifference, UnitChange
from memkern.audit.compare.trainings import Means, layermem_mean, n_measured, of_both, unitmem_mean, varies
from memkern.audit.run_folder.arrays import Floats, Ints, RunArrays
from memkern.audit.statistics import (
    TrainingMean,
    cohens_d,
    holm,
    interval,
    kendall,
    largest,
    overlap,
    paired_p,
    resampled_means,
    welch_interval,
)


@dataclass(frozen=True)
class Errors:
    """Intervals and p of several differences, `[C]` each, and what they take as drawn."""

    low: Floats
    high: Floats
    p: Floats
    over: str


@dataclass(frozen=True)
class Differences:
    """Two audits of the same images, and how the differences of their means are tested.

    Attributes:
        a: The tables of A.
        b: The tables of B.
        alternative: What the one-sided tests ask of B: "less" or "greater" than A.
        k: How many of the highest images are compared.
        resamples: Bootstrap resamples.
        level: Confidence level of the intervals.
        seed: Seed of the bootstrap.
    """

    a: RunArrays
    b: RunArrays
    alternative: str
    k: int
    resamples: int
    level: float
    seed: int

    @property
    def rows(self) -> Ints:
        """Rows of the images that both audits score."""
        rows = self.a.scored
        both = [data.sslmem for data in (self.a, self.b) if data.sslmem is not None and varies(data)]
        return rows[np.isfinite(np.stack(both)[:, rows]).all(0)] if both else rows

    def of_images(
        self, scores: Mapping[str, tuple[Floats, Floats]], means: Mapping[str, Means] | None = None
    ) -> dict[str, Difference]:
        """Tests the mean differences of several scores of the scored images as one family.

        Args:
            scores: Name -> the score of every image in A and in B, `[N]` each.
            means: Name -> the means over trainings in A and in B; those whose errors are known are compared by them.

        Returns:
            Name -> what the difference of the means is worth; an interval over images keeps the images paired.
        """
        rows = self.rows
        if not scores:
            return {}
        scored = {name: (in_a[rows], in_b[rows]) for name, (in_a, in_b) in scores.items()}
        paired = np.stack([in_b - in_a for in_a, in_b in scored.values()], axis=1)
        low, high = interval(resampled_means(paired, resamples=self.resamples, seed=self.seed), self.level)
        p = paired_p(paired, self.alternative, seed=self.seed)
        return self._tested(scored, Errors(low, high, p, "images"), means or {})

    def of_units(
        self, scores: Mapping[str, tuple[Floats, Floats]], means: Mapping[str, Means] | None = None
    ) -> dict[str, Difference]:
        """Compares the means of several scores of units.

        Args:
            scores: Name -> the score of every unit in A, `[U]`, and in B, `[W]`; NaN is left out.
            means: Name -> the means over trainings in A and in B; those whose errors are known are compared by them.

        Returns:
            Name -> what the difference of the means is worth. Units are not paired: unit 3 of B may be any other. The
            units of one training peak together, so without errors over trainings there is no p.
        """
        defined = {name: (in_a[~np.isnan(in_a)], in_b[~np.isnan(in_b)]) for name, (in_a, in_b) in scores.items()}
        ends = np.full((len(defined), 2), np.nan)
        for row, (in_a, in_b) in enumerate(defined.values()):
            if min(len(in_a), len(in_b)) > 0:
                means_a = resampled_means(in_a[:, None], resamples=self.resamples, seed=self.seed)
                means_b = resampled_means(in_b[:, None], resamples=self.resamples, seed=self.seed + 1)
                low, high = interval(means_b - means_a, self.level)
                ends[row] = low[0], high[0]
        nothing = np.full(len(defined), np.nan)
        return self._tested(defined, Errors(ends[:, 0], ends[:, 1], nothing, "units"), means or {})

    def _tested(
        self, scores: Mapping[str, tuple[Floats, Floats]], errors: Errors, means: Mapping[str, Means]
    ) -> dict[str, Difference]:
        """Puts means, intervals and p together, corrected for all scores by Holm's method."""
        found = []
        for row, (name, (in_a, in_b)) in enumerate(scores.items()):
            a, b = (float(values.mean()) if len(values) else math.nan for values in (in_a, in_b))
            low, high, p, over = float(errors.low[row]), float(errors.high[row]), float(errors.p[row]), errors.over
            if name in means:
                first, second = means[name]
                a, b, over = first.value, second.value, "trainings"
                low, high, p = welch_interval(first, second, self.alternative, self.level)
            found.append(Difference(a, b, b - a, low, high, p, math.nan, cohens_d(in_a, in_b), over))
        corrected = holm(np.array([each.p for each in found]))
        pairs = zip(scores, found, corrected, strict=True)
        return {name: replace(each, p_holm=float(p)) for name, each, p in pairs}

    def sslmem(
        self, mean_a: TrainingMean | None, mean_b: TrainingMean | None
    ) -> tuple[Difference | None, Agreement | None]:
        """Compares SSLMem of the scored images and their ranking.

        Args:
            mean_a: Mean over trainings in A, if its error is known.
            mean_b: The same in B.

        Returns:
            The difference and the agreement; `None` without a reference encoder in both audits.
        """
        in_a, in_b = self.a.sslmem, self.b.sslmem
        if in_a is None or in_b is None:
            return None, None
        means = {} if mean_a is None or mean_b is None else {"sslmem": (mean_a, mean_b)}
        return self.of_images({"sslmem": (in_a, in_b)}, means)["sslmem"], self.agreement(in_a, in_b)

    def agreement(self, in_a: Floats, in_b: Floats) -> Agreement:
        """Compares how the scored images rank by a score of all images, `[N]` in either audit."""
        a, b = in_a[self.rows], in_b[self.rows]
        return Agreement(kendall(a, b), overlap(a, b, self.k), self.k, self.k / len(a))

    def layers(self, names: Sequence[str]) -> list[LayerDifference]:
        """Compares layers that both audits have: LayerMem, mean UnitMem, and the rankings of images and units."""
        both = [name for name in names if name in self.a.ratio and name in self.b.ratio]
        ratios = {name: (self.a.ratio[name], self.b.ratio[name]) for name in both}
        units = {name: (self.a.units[name].unitmem, self.b.units[name].unitmem) for name in names}
        layermem = self.of_images(ratios, of_both(self.a, self.b, both, layermem_mean))
        unitmem = self.of_units(units, of_both(self.a, self.b, names, unitmem_mean))
        aligned = max(n_measured(self.a), n_measured(self.b)) == 1  # units of two trainings have nothing in common
        found = []
        for name in names:
            in_a, in_b = units[name]
            images = self.agreement(*ratios[name]) if name in ratios else None
            alike = Agreement(kendall(in_a, in_b)) if aligned and len(in_a) == len(in_b) else None
            found.append(LayerDifference(name, layermem.get(name), unitmem[name], images, alike))
        return found

    def changed_units(self, names: Sequence[str], count: int = 10) -> list[UnitChange]:
        """Finds the units whose UnitMem changed most, of layers with as many units in both audits of one training."""
        found: list[tuple[float, UnitChange]] = []
        if max(n_measured(self.a), n_measured(self.b)) > 1:
            return []
        for name in names:
            a, b = self.a.units[name], self.b.units[name]
            if len(a.unit) != len(b.unit):
                continue
            size = np.abs(b.unitmem - a.unitmem)
            for row in largest(size, count):
                scores = float(a.unitmem[row]), float(b.unitmem[row])
                change = UnitChange(name, int(a.unit[row]), *scores, a.peak_id[row], b.peak_id[row])
                found.append((float(size[row]), change))
        found.sort(key=lambda pair: -pair[0])  # stable: forward order on ties
        return [change for size, change in found[:count] if size > 0]
