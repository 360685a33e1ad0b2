"""Compares two audits of the same images: did an encoder memorize less than another, where, and which images?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memkern.audit.run_folder.arrays import Floats, Readings, readings
from memkern.audit.run_folder.store import Run, read_run
from memkern.audit.statistics import holm, interval, kendall, largest, overlap, resampled_means, welch
from memkern.errors import CompareError

SAME = (
    "data.n_images", "data.list_sha256", "candidates", "views.n_views", "views.spec", "views.seed",
    "views.size", "views.pairs", "views.normalize", "options.median",
)  # fmt: skip
"""Fields of the manifest that must agree: otherwise a difference of scores is not one of encoders."""


@dataclass(frozen=True)
class Difference:
    """A mean of run A, of run B, and what the difference B - A is worth.

    Attributes:
        a: Mean in A.
        b: Mean in B.
        difference: B - A.
        low: Lower end of the bootstrap confidence interval of the difference.
        high: Upper end.
        p: One-sided Welch test.
        p_holm: The same, corrected for all layers by Holm's method; equal to `p` where one thing is tested.
        d: Cohen's d.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    d: float


@dataclass(frozen=True)
class Agreement:
    """How alike two rankings are.

    Attributes:
        tau: Kendall's tau-b; 1 the same order, 0 unrelated.
        overlap: Share of the top k that is in both; `None` for units.
        k: That k.
        chance: The share to expect of unrelated rankings.
    """

    tau: float
    overlap: float | None = None
    k: int | None = None
    chance: float | None = None


@dataclass(frozen=True)
class LayerDifference:
    """One layer in both runs.

    Attributes:
        name: The layer.
        layermem: LayerMem over the scored images, or `None` without a reference encoder in one of the runs.
        unitmem: Mean UnitMem of its units.
        images: How alike the images rank by their score at this layer, or `None` as above.
        units: How alike the units rank by UnitMem; `None` if the layer has another number of units.
    """

    name: str
    layermem: Difference | None
    unitmem: Difference
    images: Agreement | None
    units: Agreement | None


@dataclass(frozen=True)
class UnitChange:
    """A unit whose UnitMem changed.

    Attributes:
        layer: The layer.
        unit: Its number.
        a: UnitMem in A.
        b: UnitMem in B.
        peak_a: Id of the image at its peak in A.
        peak_b: The same in B.
    """

    layer: str
    unit: int
    a: float
    b: float
    peak_a: str
    peak_b: str


@dataclass(frozen=True)
class Comparison:
    """Two audits side by side.

    Attributes:
        run_a: Folder, encoder and reference of A.
        run_b: The same of B.
        alternative: What the one-sided tests ask of B: "less" or "greater" than A.
        n_images: How many images were scored: the candidates, or all.
        sslmem: SSLMem of these images, or `None` without a reference encoder in one of the runs.
        images: How alike they rank by SSLMem.
        layers: The layers that both runs have, in A's order.
        changed: The units whose UnitMem changed most, of layers with the same number of units.
        only_a: Layers that B lacks.
        only_b: Layers that A lacks.
        notes: What to keep in mind, one sentence each.
        resamples: Bootstrap resamples.
        level: Confidence level of the intervals.
        seed: Seed of the bootstrap.
    """

    run_a: dict[str, str | None]
    run_b: dict[str, str | None]
    alternative: str
    n_images: int
    sslmem: Difference | None
    images: Agreement | None
    layers: list[LayerDifference]
    changed: list[UnitChange]
    only_a: list[str]
    only_b: list[str]
    notes: list[str]
    resamples: int
    level: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; NaN and infinity become `None`."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain

    def __str__(self) -> str:
        from memkern.audit.compare.text import text  # the layout of the terminal is another concern

        return text(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare(
    a: Run | Path | str,
    b: Run | Path | str,
    *,
    alternative: str = "less",
    top: int | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares two audits of the same images with the same views.

    The difference of each layer's LayerMem comes with a bootstrap confidence interval over the images, which stay
    paired, and a one-sided Welch test with Cohen's d; the tests of all layers are corrected together by Holm's method.
    Welch's test takes the two runs as independent, so on the same images it is careful: a small p is to be believed.

    Args:
        a: A finished audit, or its folder.
        b: Another one.
        alternative: What the tests ask: whether B memorizes "less" than A, or more ("greater").
        top: How many of the most memorized images to compare; default: a tenth of the scored ones, at most 50.
        resamples: Bootstrap resamples.
        level: Confidence level.
        seed: Seed of the bootstrap.

    Returns:
        The comparison; `str` of it is the table that `memkern compare` prints.

    Raises:
        CompareError: If images, candidates, views or seeds differ; the message names the field.
        RunFolderError: If a folder holds no finished audit.
        ValueError: If an option is out of bounds.
        ImportError: If a package of `memkern[audit]` is missing.
    """
    if alternative not in ("less", "greater"):
        raise ValueError(f'Expected `alternative` to be "less" or "greater", got {alternative!r}')
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` to lie between 0 and 1, got {level}")
    if resamples < 100:
        raise ValueError(f"Expected `resamples` to be 100 or more, got {resamples}")
    run_a, run_b = (run if isinstance(run, Run) else read_run(run) for run in (a, b))
    _check_same(run_a, run_b)
    of_a, of_b = readings(run_a), readings(run_b)
    if of_a.ids != of_b.ids:
        place = next((i for i, pair in enumerate(zip(of_a.ids, of_b.ids, strict=False)) if pair[0] != pair[1]), 0)
        raise CompareError(f"Expected the same images in the same order; samples.id differs first in row {place}")
    rows = of_a.scored
    if top is not None and not 1 <= top <= len(rows):
        raise ValueError(f"Expected `top` to be from 1 to the {len(rows)} scored images, got {top}")
    names_a, names_b = run_a.layer_names, run_b.layer_names
    common = [name for name in names_a if name in set(names_b)]
    work = _Work(
        of_a, of_b, alternative, min(50, max(1, len(rows) // 10)) if top is None else top, resamples, level, seed
    )
    layers = work.layers(common)
    sslmem, images = None, None
    if of_a.sslmem is not None and of_b.sslmem is not None:
        sslmem = work.of_images({"sslmem": (of_a.sslmem, of_b.sslmem)})["sslmem"]
        images = work.agreement(of_a.sslmem[rows], of_b.sslmem[rows])
    return Comparison(
        run_a=_about(run_a),
        run_b=_about(run_b),
        alternative=alternative,
        n_images=len(rows),
        sslmem=sslmem,
        images=images,
        layers=layers,
        changed=_changed(of_a, of_b, common),
        only_a=[name for name in names_a if name not in set(names_b)],
        only_b=[name for name in names_b if name not in set(names_a)],
        notes=_notes(run_a, run_b, sslmem is None, of_a.has_candidates),
        resamples=resamples,
        level=level,
        seed=seed,
    )


def _field(manifest: Mapping[str, Any], path: str) -> Any:
    value: Any = manifest
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_same(a: Run, b: Run) -> None:
    for field in SAME:
        mine, other = _field(a.manifest, field), _field(b.manifest, field)
        if mine == other:
            continue
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            field, mine, other = next(
                (f"{field}.{key}", mine.get(key), other.get(key))
                for key in {**mine, **other}
                if mine.get(key) != other.get(key)
            )
        raise CompareError(
            f"Expected both audits to have the same {field}, got {mine!r} in {a.folder} and {other!r} in {b.folder}; "
            "audit both encoders with the same images, candidates, views and seed"
        )


def _about(run: Run) -> dict[str, str | None]:
    return {
        "folder": str(run.folder),
        "encoder": run.manifest.get("encoder"),
        "reference": run.manifest.get("reference"),
    }


def _weights(run: Run, role: str) -> Any:
    return _field(run.manifest, f"weights.{role}.sha256")


def _notes(a: Run, b: Run, without: bool, has_candidates: bool) -> list[str]:
    notes = []
    if without:
        notes.append("SSLMem and LayerMem are not compared: they need a reference encoder in both audits.")
    elif _weights(a, "g") != _weights(b, "g"):
        notes.append(
            "The reference encoders differ: a difference of SSLMem or LayerMem can come from f, from g or from both."
        )
    if not without and not has_candidates:
        notes.append("No candidates were named: scores are means over all images, also those both encoders trained on.")
    if _weights(a, "f") is not None and _weights(a, "f") == _weights(b, "f"):
        notes.append("Both audits are of the same weights.")
    if a.output != b.output:
        notes.append(f"SSLMem was measured at {a.output!r} in A and at {b.output!r} in B.")
    return notes


@dataclass(frozen=True)
class _Work:
    a: Readings
    b: Readings
    alternative: str
    k: int
    resamples: int
    level: float
    seed: int

    def of_images(self, pairs: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Difference]:
        """Mean differences of scores of the same images, one family of tests."""
        rows = self.a.scored
        if not pairs:
            return {}
        both = {name: (mine[rows], other[rows]) for name, (mine, other) in pairs.items()}
        paired = np.stack([other - mine for mine, other in both.values()], axis=1)
        low, high = interval(resampled_means(paired, resamples=self.resamples, seed=self.seed), self.level)
        return self._differences(both, low, high)

    def of_units(self, pairs: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Difference]:
        """Mean differences of scores of units, which are not paired: unit 3 of A need not be unit 3 of B."""
        defined = {name: tuple(values[~np.isnan(values)] for values in pair) for name, pair in pairs.items()}
        ends: list[tuple[float, float]] = []
        for mine, other in defined.values():
            if min(len(mine), len(other)) == 0:
                ends.append((math.nan, math.nan))
                continue
            means = [
                resampled_means(values[:, None], resamples=self.resamples, seed=seed)
                for values, seed in ((mine, self.seed), (other, self.seed + 1))
            ]
            low_end, high_end = interval(means[1] - means[0], self.level)
            ends.append((float(low_end[0]), float(high_end[0])))
        low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
        return self._differences({name: (pair[0], pair[1]) for name, pair in defined.items()}, low, high)

    def _differences(
        self, pairs: Mapping[str, tuple[Floats, Floats]], low: Floats, high: Floats
    ) -> dict[str, Difference]:
        tests = [welch(mine, other, self.alternative) for mine, other in pairs.values()]
        corrected = holm(np.array([test.p for test in tests]))
        found = {}
        for place, (name, (mine, other)) in enumerate(pairs.items()):
            a, b = (float(values.mean()) if len(values) else math.nan for values in (mine, other))
            found[name] = Difference(
                a, b, b - a, float(low[place]), float(high[place]), tests[place].p, float(corrected[place]),
                tests[place].d,
            )  # fmt: skip
        return found

    def agreement(self, mine: Floats, other: Floats) -> Agreement:
        """How alike the scored images rank."""
        return Agreement(kendall(mine, other), overlap(mine, other, self.k), self.k, self.k / len(mine))

    def layers(self, names: list[str]) -> list[LayerDifference]:
        """Every layer that both runs have."""
        both = [name for name in names if name in self.a.ratio and name in self.b.ratio]
        ratios = {name: (self.a.ratio[name], self.b.ratio[name]) for name in both}
        units = {name: (self.a.units[name].unitmem, self.b.units[name].unitmem) for name in names}
        layermem, unitmem = self.of_images(ratios), self.of_units(units)
        rows = self.a.scored
        found = []
        for name in names:
            mine, other = units[name]
            images = self.agreement(*(ratio[rows] for ratio in ratios[name])) if name in ratios else None
            alike = Agreement(kendall(mine, other)) if len(mine) == len(other) else None
            found.append(LayerDifference(name, layermem.get(name), unitmem[name], images, alike))
        return found


def _changed(a: Readings, b: Readings, names: list[str], count: int = 10) -> list[UnitChange]:
    found: list[tuple[float, UnitChange]] = []
    for name in names:
        mine, other = a.units[name], b.units[name]
        if len(mine.unit) != len(other.unit):
            continue
        change = np.abs(other.unitmem - mine.unitmem)
        for row in largest(change, count):
            found.append(
                (
                    float(change[row]),
                    UnitChange(
                        name, int(mine.unit[row]), float(mine.unitmem[row]), float(other.unitmem[row]),
                        mine.peak_id[row], other.peak_id[row],
                    ),
                )
            )  # fmt: skip
    found.sort(key=lambda pair: -pair[0])  # stable: forward order on ties
    return [change for size, change in found[:count] if size > 0]
