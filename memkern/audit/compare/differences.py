"""The means of two audits, what their differences are worth, and how alike their rankings are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memkern.audit.compare.records import Agreement, Difference, LayerDifference, UnitChange
from memkern.audit.run_folder.arrays import Floats, RunArrays
from memkern.audit.statistics import holm, interval, kendall, largest, overlap, resampled_means, welch


@dataclass(frozen=True)
class Differences:
    """Two audits of the same images, and how the differences of their means are tested.

    Attributes:
        a: The tables of A.
        b: The tables of B.
        alternative: What the one-sided tests ask of B: "less" or "greater" than A.
        k: How many of the most memorized images are compared.
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

    def of_images(self, scores: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Difference]:
        """Tests the mean differences of several scores of the scored images as one family.

        Args:
            scores: Name -> the score of every image in A and in B, `[N]` each.

        Returns:
            Name -> what the difference of the means is worth; its interval keeps the images paired.
        """
        rows = self.a.scored
        if not scores:
            return {}
        scored = {name: (in_a[rows], in_b[rows]) for name, (in_a, in_b) in scores.items()}
        paired = np.stack([in_b - in_a for in_a, in_b in scored.values()], axis=1)
        low, high = interval(resampled_means(paired, resamples=self.resamples, seed=self.seed), self.level)
        return self._tested(scored, low, high)

    def of_units(self, scores: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Difference]:
        """Tests the mean differences of several scores of units as one family.

        Args:
            scores: Name -> the score of every unit in A, `[U]`, and in B, `[W]`; NaN is left out.

        Returns:
            Name -> what the difference of the means is worth. Units are not paired: unit 3 of B may be any other.
        """
        defined = {name: (in_a[~np.isnan(in_a)], in_b[~np.isnan(in_b)]) for name, (in_a, in_b) in scores.items()}
        ends = np.full((len(defined), 2), np.nan)
        for row, (in_a, in_b) in enumerate(defined.values()):
            if min(len(in_a), len(in_b)) > 0:
                means_a = resampled_means(in_a[:, None], resamples=self.resamples, seed=self.seed)
                means_b = resampled_means(in_b[:, None], resamples=self.resamples, seed=self.seed + 1)
                low, high = interval(means_b - means_a, self.level)
                ends[row] = low[0], high[0]
        return self._tested(defined, ends[:, 0], ends[:, 1])

    def _tested(self, scores: Mapping[str, tuple[Floats, Floats]], low: Floats, high: Floats) -> dict[str, Difference]:
        """Puts means, intervals and Welch tests together, corrected for all scores by Holm's method."""
        tests = [welch(in_a, in_b, self.alternative) for in_a, in_b in scores.values()]
        corrected = holm(np.array([test.p for test in tests]))
        found = {}
        for row, (name, (in_a, in_b)) in enumerate(scores.items()):
            a, b = (float(values.mean()) if len(values) else math.nan for values in (in_a, in_b))
            found[name] = Difference(
                a, b, b - a, float(low[row]), float(high[row]), tests[row].p, float(corrected[row]), tests[row].d
            )
        return found

    def sslmem(self) -> tuple[Difference | None, Agreement | None]:
        """Compares SSLMem of the scored images and their ranking; `None` without a reference encoder in both audits."""
        in_a, in_b = self.a.sslmem, self.b.sslmem
        if in_a is None or in_b is None:
            return None, None
        return self.of_images({"sslmem": (in_a, in_b)})["sslmem"], self.agreement(in_a, in_b)

    def agreement(self, in_a: Floats, in_b: Floats) -> Agreement:
        """Compares how the scored images rank by a score of all images, `[N]` in either audit."""
        a, b = in_a[self.a.scored], in_b[self.a.scored]
        return Agreement(kendall(a, b), overlap(a, b, self.k), self.k, self.k / len(a))

    def layers(self, names: Sequence[str]) -> list[LayerDifference]:
        """Compares layers that both audits have: LayerMem, mean UnitMem, and the rankings of images and units."""
        both = [name for name in names if name in self.a.ratio and name in self.b.ratio]
        ratios = {name: (self.a.ratio[name], self.b.ratio[name]) for name in both}
        units = {name: (self.a.units[name].unitmem, self.b.units[name].unitmem) for name in names}
        layermem, unitmem = self.of_images(ratios), self.of_units(units)
        found = []
        for name in names:
            in_a, in_b = units[name]
            images = self.agreement(*ratios[name]) if name in ratios else None
            alike = Agreement(kendall(in_a, in_b)) if len(in_a) == len(in_b) else None
            found.append(LayerDifference(name, layermem.get(name), unitmem[name], images, alike))
        return found

    def changed_units(self, names: Sequence[str], count: int = 10) -> list[UnitChange]:
        """Finds the units whose UnitMem changed most, of layers with the same number of units in both audits."""
        found: list[tuple[float, UnitChange]] = []
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
