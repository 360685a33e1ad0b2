"""Checks that two audits may be compared, and lists what a reader of their comparison should keep in mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from memkern.audit.compare.records import Difference
from memkern.audit.compare.trainings import trainings, varies
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.reader import Run
from memkern.audit.run_folder.schema import Manifest
from memkern.errors import CompareError


def check_same(a: Run, b: Run) -> None:
    """Checks that two audits have the same candidates, views and settings.

    Args:
        a: The first audit.
        b: The second one.

    Raises:
        CompareError: If a field of the manifest differs; the message names it.
    """
    designs = _same_design(a.manifest, b.manifest)
    of_a, of_b = _must_agree(a.manifest) | designs[0], _must_agree(b.manifest) | designs[1]
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
            "audit both with the same images, candidates, kind of design, control, views and seed"
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
    if not scored:
        found.append("SSLMem and LayerMem are not compared: they need a reference encoder in both audits.")
    elif _digests(a.manifest, "g") != _digests(b.manifest, "g"):
        found.append(
            "The reference encoders differ: a difference of SSLMem or LayerMem can come from f, from g or from both."
        )
    if scored and not has_candidates:
        found.append("No candidates were named: scores are means over all images, also those both encoders trained on.")
    if _digests(a.manifest, "f") == _digests(b.manifest, "f"):
        found.append("Both audits are of the same weights.")
    shared = sum(len(_digests(a.manifest, role) & _digests(b.manifest, role)) for role in ("f", "g"))
    if shared and len(a.manifest.encoders) > 2 and len(b.manifest.encoders) > 2:
        found.append(
            f"{shared} of the trainings {'is' if shared == 1 else 'are'} in both audits: their part of the difference "
            "cancels, which Welch's t does not count, so intervals over trainings are too wide and p too large."
        )
    if a.output != b.output:
        found.append(f"SSLMem was measured at {a.output!r} in A and at {b.output!r} in B.")
    return found


def notes_on_trainings(a: RunArrays, b: RunArrays, sslmem: Difference | None) -> list[str]:
    """Lists what to keep in mind about the trainings, one sentence each.

    Args:
        a: The tables of the first audit.
        b: The tables of the second one.
        sslmem: How SSLMem differs; `None` where it is not compared.

    Returns:
        The sentences; empty if there is nothing to keep in mind.
    """
    found = []
    if sslmem is not None and any(not varies(data) and min(trainings(data)) < 2 for data in (a, b)):
        found.append(
            "One training has no error: intervals and p are over images, given these trainings; another training by "
            "the same recipe can differ by more. Audit two trainings or more in each role for an error over trainings."
        )
    elif sslmem is not None and sslmem.over != "trainings":
        found.append(
            "Interval and p of SSLMem are over images, given these trainings; those of LayerMem are over trainings."
        )
    if trainings(a) != trainings(b):
        counts = [f"{n_f} f and {n_g} g" if n_g else str(n_f) for n_f, n_g in map(trainings, (a, b))]
        found.append(f"A has {counts[0]} trainings, B {counts[1]}.")
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


def _same_design(a: Manifest, b: Manifest) -> tuple[dict[str, object], dict[str, object]]:
    """Lists what must agree where both audits say what they may conclude: else their scores mean different things."""
    if a.significance is None or b.significance is None:
        return {}, {}
    varying = a.significance.design == "varying"  # the excess of a split does without levels anyway
    fields = ("design", "control", *(["levels_removed"] if varying else []))
    of_a, of_b = (
        {f"significance.{name}": getattr(found, name) for name in fields} for found in (a.significance, b.significance)
    )
    return of_a, of_b


def _digests(manifest: Manifest, role: str) -> set[str]:
    """Digests of the weights of the f's or the g's; encoders without a role count as f."""
    if manifest.encoders:
        return {entry.weights.sha256 for entry in manifest.encoders if (entry.role or "f") == role}
    entry = manifest.weights.f if role == "f" else manifest.weights.g
    return set() if entry is None else {entry.sha256}
