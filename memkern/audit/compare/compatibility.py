"""Whether two audits may be compared, and what a reader of their comparison should keep in mind."""

from __future__ import annotations

from collections.abc import Mapping

from memkern.audit.run_folder.arrays import Readings
from memkern.audit.run_folder.store import Run
from memkern.errors import CompareError

SAME = (
    "data.n_images", "data.list_sha256", "candidates", "views.n_views", "views.spec", "views.seed",
    "views.size", "views.pairs", "views.normalize", "options.median",
)  # fmt: skip
"""Fields of the manifest that must agree: otherwise a difference of scores is not one of encoders."""


def check_same(a: Run, b: Run) -> None:
    """Checks that two audits have the same candidates, views and settings.

    Raises:
        CompareError: If they have not; the message names the field of the manifest.
    """
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


def check_same_images(a: Readings, b: Readings) -> None:
    """Checks that two audits have the same images in the same order.

    Raises:
        CompareError: If they have not; the message names the first row that differs.
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
    """
    found = []
    if not scored:
        found.append("SSLMem and LayerMem are not compared: they need a reference encoder in both audits.")
    elif _weights(a, "g") != _weights(b, "g"):
        found.append(
            "The reference encoders differ: a difference of SSLMem or LayerMem can come from f, from g or from both."
        )
    if scored and not has_candidates:
        found.append("No candidates were named: scores are means over all images, also those both encoders trained on.")
    if _weights(a, "f") is not None and _weights(a, "f") == _weights(b, "f"):
        found.append("Both audits are of the same weights.")
    if a.output != b.output:
        found.append(f"SSLMem was measured at {a.output!r} in A and at {b.output!r} in B.")
    return found


def _field(manifest: Mapping[str, object], path: str) -> object:
    """Reads a field of a manifest by its dotted name; `None` where it has none."""
    value: object = manifest
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _weights(run: Run, role: str) -> object:
    """Returns the digest of the weights of f or g, or `None` where they came from no file."""
    return _field(run.manifest, f"weights.{role}.sha256")
