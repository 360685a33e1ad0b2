"""Columns of the tables of a RUN folder that speak of trainings: who saw what, and how sure a score is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memkern import families
from memkern.audit.measure.family import FamilyScores, Membership
from memkern.audit.measure.scores import RunScores, bounded, mean, mean_of
from memkern.audit.run_folder.columns import ATTACKS, Columns
from memkern.families.design import GROUPS


def membership_columns(
    membership: Membership, roles: Mapping[str, str], ids: Sequence[str], duplicates: Sequence[tuple[str, str, str]]
) -> Columns:
    """Lays out who saw which image.

    Args:
        membership: `[N, K]` int8: 1 the encoder saw the image, 0 did not, -1 unknown.
        roles: Encoder -> "f", "g", or "" where encoders have no roles.
        ids: Id of each image.
        duplicates: Image, its copy, "exact" or "near".

    Returns:
        The columns; none where nothing is known.
    """
    if (membership == -1).all():
        return {}
    return {
        "group": _groups(membership, np.array([role == "f" for role in roles.values()])),
        "n_in": (membership == 1).sum(1),
        "n_out": (membership == 0).sum(1),
        "leaked_by": leaks(membership, ids, duplicates),
        **{f"member/{name}": membership[:, k] for k, name in enumerate(roles)},
    }


def _groups(membership: Membership, is_f: NDArray[np.bool_]) -> list[str | None]:
    """The group of each image of a fixed split; `None` without f's and g's, and where something is unknown."""
    found: list[str | None] = [None] * len(membership)
    for name, (inside, outside) in GROUPS.items():
        if is_f.any() and not is_f.all():
            for row in np.flatnonzero((membership == np.where(is_f, inside, outside)).all(1)):
                found[row] = name
    return found


def leaks(membership: Membership, ids: Sequence[str], duplicates: Sequence[tuple[str, str, str]]) -> list[str | None]:
    """Names for each image a copy of it that an encoder saw which did not see the image itself.

    Args:
        membership: `[N, K]` int8: 1 the encoder saw the image, 0 did not, -1 unknown.
        ids: Id of each image.
        duplicates: Image, its copy, "exact" or "near"; all copies of an image name the same one.

    Returns:
        Id of the first such copy, or `None`.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    alike: dict[str, list[int]] = {}
    first_of: dict[str, str] = {}
    for one, copy, _ in duplicates:
        first = first_of.setdefault(one, one)  # a copy of a copy is one of the same image
        first_of[copy] = first
        alike.setdefault(first, [row_of[first]]).append(row_of[copy])
    found: list[str | None] = [None] * len(ids)
    for rows in alike.values():
        for row in rows:
            out = membership[row] == 0
            saw = (other for other in sorted(rows) if (out & (membership[other] == 1)).any())
            source = next(saw, None)
            found[row] = None if source is None else ids[source]
    return found


def sample_columns(family: FamilyScores, layers: Sequence[str]) -> Columns:
    """Lays out the scores of images over trainings.

    Args:
        family: The scores.
        layers: Names of the layers.

    Returns:
        Column -> values; a NaN is null, as everywhere in these columns.
    """
    images, at = family.images, family.output
    columns: Columns = {
        "sslmem_ratio": images.ratio[at],
        "se": images.se[at],
        "se_ratio": images.se_ratio[at],
        "se_views": images.se_views,
        "p": images.p[at],
        "p_check": images.p_check,
        "q": images.q[at],
    }
    if family.significance.method != "none":
        scored = zip(images.memorized.tolist(), np.isnan(images.q[at]), strict=True)
        columns["memorized"] = [None if missing else flag for flag, missing in scored]
    if family.peaks is not None:
        columns |= {"peaks_in": family.peaks.inside, "peaks_out": family.peaks.outside}
    for place, name in enumerate(layers):
        columns[f"a_in/{name}"] = images.a_in[place]
        columns[f"a_out/{name}"] = images.a_out[place]
    return columns


def layer_columns(family: FamilyScores) -> Columns:
    """Lays out LayerMem with its errors, the cross-fitted groups and the peaks of units, of each layer."""
    layers, images = family.layers, family.images
    columns: Columns = {
        "layermem_top50": layers.top,
        "layermem_least50": layers.least,
        "n_top": [layers.n_top] * len(layers.top),
        "layermem_top50_control": layers.top_control,
        "layermem_least50_control": layers.least_control,
        "layermem_control": layers.control,
        "layermem_excess": layers.excess,
        "delta_excess": layers.delta_excess,
        "se": layers.se,
        "se_images": layers.se_images,
        "se_encoders": layers.se_encoders,
        "low": layers.low,
        "high": layers.high,
        "reliability": images.reliability,
        "level_sd": images.sd_levels,
    }
    if family.n_memorized is not None:
        columns["n_memorized"] = family.n_memorized
    if family.peaks is not None:
        found = family.peaks.layers
        columns["member_peaks"] = np.array([each.share for each in found])
        columns["member_peaks_expected"] = np.array([each.expected for each in found])
        columns["member_peaks_p"] = np.array([each.p for each in found])
    return columns


def encoder_columns(scores: RunScores, roles: Mapping[str, str], membership: Membership) -> Columns:
    """Lays out the encoders: who saw how much, its level, its units, and how well it tells members from others.

    Args:
        scores: The scores of the run.
        roles: Encoder -> "f", "g" or "".
        membership: `[N, K]` int8, the encoders in the order of `roles`.

    Returns:
        Column -> values, one per encoder.
    """
    known = (membership != -1).any(0)
    columns: Columns = {
        "encoder": list(roles),
        "role": [role or None for role in roles.values()],
        "n_members": [
            int(n) if any_known else None for n, any_known in zip((membership == 1).sum(0), known, strict=True)
        ],
        "unitmem_mean": [_mean_over_layers(scores, name, "unitmem") for name in roles],
        "classmem_mean": [_mean_over_layers(scores, name, "classmem") for name in roles],
    }
    family = scores.family
    if family is None:
        return columns
    columns["level"] = family.images.levels[family.output]
    by = (family.attacks.alignment, family.attacks.sslmem, family.attacks.lira)
    for names, attack in zip(ATTACKS.values(), by, strict=True):
        found = (None,) * len(roles) if attack is None else attack.encoders
        shown = [roc if role != "g" else None for roc, role in zip(found, roles.values(), strict=True)]
        columns |= dict(zip(names, np.stack([_numbers(roc) for roc in shown]).T, strict=True))
    return columns


def _numbers(roc: families.Roc | None) -> NDArray[np.float64]:
    """Area under the curve and rates, each with the ends of its interval, `[12]`."""
    if roc is None:
        return np.full(12, np.nan)
    return np.concatenate([[roc.auc, roc.auc_low, roc.auc_high], np.stack([roc.tpr, roc.low, roc.high], 1).ravel()])


def _mean_over_layers(scores: RunScores, encoder: str, kind: str) -> float | None:
    """Mean over layers of the mean UnitMem or ClassMem of an encoder, without signed layers; null if not measured."""
    found = []
    for layer in scores.layers:
        own = layer.encoders.get(encoder)
        if own is None or families.signed_units(own.units.peak, own.units.rest).any():
            continue
        values = own.unitmem if kind == "unitmem" else own.classmem
        found.append(None if values is None else mean(bounded(values)))
    return mean_of(found)
