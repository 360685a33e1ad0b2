"""Checks that two audits may be compared, and lists what a reader of their comparison should keep in mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.reader import Run
from memkern.audit.run_folder.schema import Manifest, WeightsEntry
from memkern.errors import CompareError


def check_same(a: Run, b: Run) -> None:
    """Checks that two audits have the same candidates, views and settings.

    Args:
        a: The first audit.
        b: The second one.

    Raises:
        CompareError: If a field of the manifest differs; the message names it.
    """
    of_a, of_b = _must_agree(a.manifest), _must_agree(b.manifest)
    for field, mine in of_a.items():
        other = of_b[field]
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


def check_same_images(a: RunArrays, b: RunArrays) -> None:
    """Checks that two audits have the same images in the same order.

    Args:
        a: The tables of the first audit.
        b: The tables of the second one.

    Raises:
        CompareError: If a row differs; the message names the first one.
    """
    if a.ids != b.ids:
        row = next((i for i, pair in enumerate(zip(a.ids, b.ids, strict=False)) if pair[0] != pair[1]), 0)
        raise CompareError(f"Expected the same images in the same order; samples.id differs first in row {row}")


def notes(a: Run, b: Run, *, scored: bool, has_candidates: bool) -> list[str]:
    """Lists what to keep in mind, one sentence each.

    Args:
        a: The first audit.
        b: The second one.
        scored: Whether both have a reference encoder, so that SSLMem and LayerMem are compared.
        has_candidates: Whether they were told which images are candidates.

    Returns:
        The sentences; empty if there is nothing to keep in mind.
    """
    found = []
    of_a, of_b = a.manifest.weights, b.manifest.weights
    if not scored:
        found.append("SSLMem and LayerMem are not compared: they need a reference encoder in both audits.")
    elif _digest(of_a.g) != _digest(of_b.g):
        found.append(
            "The reference encoders differ: a difference of SSLMem or LayerMem can come from f, from g or from both."
        )
    if scored and not has_candidates:
        found.append("No candidates were named: scores are means over all images, also those both encoders trained on.")
    if of_a.f.sha256 == of_b.f.sha256:
        found.append("Both audits are of the same weights.")
    if a.output != b.output:
        found.append(f"SSLMem was measured at {a.output!r} in A and at {b.output!r} in B.")
    return found


def _must_agree(manifest: Manifest) -> dict[str, object]:
    """Lists what must agree, under its name in the manifest: else a difference of scores is not one of encoders."""
    data, views, candidates = manifest.data, manifest.views, manifest.candidates
    return {
        "data.n_images": data.n_images,
        "data.list_sha256": data.list_sha256,
        "candidates": None if candidates is None else candidates.to_json(),
        "views.n_views": views.n_views,
        "views.spec": asdict(views.spec),
        "views.seed": views.seed,
        "views.size": views.size,
        "views.pairs": views.pairs,
        "views.normalize": views.normalize,
        "options.median": manifest.plan.median,
    }


def _digest(weights: WeightsEntry | None) -> str | None:
    return None if weights is None else weights.sha256
