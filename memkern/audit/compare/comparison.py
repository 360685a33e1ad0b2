"""Compares two audits of the same images: did an encoder memorize less than another, where, and which images?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memkern.audit.compare import text
from memkern.audit.compare.compatibility import check_same, check_same_images, notes, notes_on_trainings
from memkern.audit.compare.differences import Differences
from memkern.audit.compare.records import Agreement, Difference, LayerDifference, UnitChange
from memkern.audit.compare.trainings import sslmem_mean, varies
from memkern.audit.run_folder.arrays import read_arrays
from memkern.audit.run_folder.reader import Run, read_run
from memkern.errors import ArgumentValueError


@dataclass(frozen=True)
class Comparison:
    """Two audits side by side.

    Attributes:
        run_a: Folder, encoder and reference of A.
        run_b: Folder, encoder and reference of B.
        alternative: What the one-sided tests ask of B: "less" or "greater" than A.
        n_images: How many images were scored: the candidates, or all.
        sslmem: SSLMem of these images, or `None` without a reference encoder in one of the runs.
        images: How alike the images rank by SSLMem.
        layers: The layers that both runs have, in A's order.
        changed: The units whose UnitMem changed most, of layers with the same number of units.
        only_a: Layers that B lacks.
        only_b: Layers that A lacks.
        notes: What to keep in mind, one sentence each.
        resamples: Bootstrap resamples.
        level: Confidence level of the intervals.
        seed: Seed of the bootstrap and of the exchanges.
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
        """Turns the comparison into plain values for JSON; NaN and infinity become `None`."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain

    def __str__(self) -> str:
        rest = f"{self.level:.0%}, over trainings by Welch's t"
        if not any(layer.layermem is not None and layer.layermem.over == "trainings" for layer in self.layers):
            rest = f"{self.level:.0%} bootstrap, {self.resamples} resamples, seed {self.seed}"
        lines = [
            f"A  {text.about(self.run_a)}",
            f"B  {text.about(self.run_b)}",
            f"{self.n_images} images scored; tests: B {self.alternative} than A; intervals: {rest}",
            *text.sslmem(self.sslmem, self.images),
            *text.layermem(self.layers),
            *text.unitmem(self.layers),
            *text.changed_units(self.changed),
            *text.names("only in A", self.only_a),
            *text.names("only in B", self.only_b),
            *text.notes(self.notes),
        ]
        return "\n".join(lines)


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

    Where both audits have two trainings or more in each role, the difference of SSLMem and of each layer's LayerMem,
    beyond the control, comes with an interval and a one-sided p by Welch's t with trainings as what was drawn. One
    training has no error: then the interval is a bootstrap over the images, which stay paired, p exchanges A and B
    within images, and both speak of these trainings alone. The p of all layers are corrected together by Holm's method.

    Args:
        a: A finished audit, or its folder.
        b: Another finished audit, or its folder.
        alternative: What the tests ask: whether B memorizes "less" than A, or more ("greater").
        top: How many of the highest images by SSLMem to compare; default: a tenth of the scored ones, at most 50.
        resamples: Bootstrap resamples.
        level: Confidence level.
        seed: Seed of the bootstrap and of the exchanges.

    Returns:
        The comparison; `str` of it is the table that `memkern compare` prints.

    Raises:
        CompareError: If images, candidates, views or seeds differ; the message names the field.
        RunFolderError: If a folder holds no finished audit.
        ValueError: If an option is out of bounds.
        ImportError: If a package of `memkern[audit]` is missing.
    """
    _check_options(alternative, resamples, level)
    run_a, run_b = (run if isinstance(run, Run) else read_run(run) for run in (a, b))
    check_same(run_a, run_b)
    of_a, of_b = read_arrays(run_a), read_arrays(run_b)
    check_same_images(of_a, of_b)
    differences = Differences(of_a, of_b, alternative, 1, resamples, level, seed)
    n_images = len(differences.rows)
    differences = replace(differences, k=_top(top, n_images))
    names_a, names_b = run_a.layer_names, run_b.layer_names
    common = [name for name in names_a if name in set(names_b)]
    sslmem, images = differences.sslmem(sslmem_mean(run_a, of_a), sslmem_mean(run_b, of_b))
    return Comparison(
        run_a=_about(run_a),
        run_b=_about(run_b),
        alternative=alternative,
        n_images=n_images,
        sslmem=sslmem,
        images=images,
        layers=differences.layers(common),
        changed=differences.changed_units(common),
        only_a=[name for name in names_a if name not in set(names_b)],
        only_b=[name for name in names_b if name not in set(names_a)],
        notes=[
            *notes(run_a, run_b, scored=sslmem is not None, has_candidates=of_a.has_candidates or varies(of_a)),
            *notes_on_trainings(of_a, of_b, sslmem),
        ],
        resamples=resamples,
        level=level,
        seed=seed,
    )


def _check_options(alternative: str, resamples: int, level: float) -> None:
    if alternative not in ("less", "greater"):
        raise ArgumentValueError(f'Expected `alternative` to be "less" or "greater", got {alternative!r}')
    if not 0 < level < 1:
        raise ArgumentValueError(f"Expected `level` to lie between 0 and 1, got {level}")
    if resamples < 100:
        raise ArgumentValueError(f"Expected `resamples` to be 100 or more, got {resamples}")


def _top(top: int | None, n_images: int) -> int:
    """Chooses how many of the highest images are compared."""
    if top is None:
        return min(50, max(1, n_images // 10))
    if not 1 <= top <= n_images:
        raise ArgumentValueError(f"Expected `top` to be from 1 to the {n_images} scored images, got {top}")
    return top


def _about(run: Run) -> dict[str, str | None]:
    return {
        "folder": str(run.folder),
        "encoder": run.manifest.encoder,
        "reference": run.manifest.reference,
    }


def _plain(value: object) -> object:
    """Turns nested values into what JSON knows: NaN and infinity become `None`."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
