"""The tables of a RUN folder: the scores of a run laid out as columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.measure.family import FamilyScores, Membership, Seen, family_scores
from memkern.audit.measure.family_columns import encoder_columns, layer_columns, membership_columns, sample_columns
from memkern.audit.measure.scores import EncoderState, LayerState, RunScores, run_scores
from memkern.audit.run_folder.columns import SAMPLES, Column, Columns
from memkern.audit.run_folder.schema import EncoderPlan, Plan
from memkern.audit.run_folder.significance import Significance

GROUPS = {
    "layermem": "all",
    "layermem_candidates": "candidates",
    "layermem_others": "others",
}
"""Column of the table of layers -> the group of images whose LayerMem it holds."""

MeansOf = Callable[[str, slice], Tensor]
"""For the median: encoder, which of its units -> means of all images, `[N, units]`."""


@dataclass(frozen=True)
class Measured:
    """Readings of an audit, its images, and who saw them.

    Attributes:
        plan: The plan.
        images: Columns id, index, path, candidate and, where they are known, label, group, picture and
            `member/<encoder>`; one entry per image.
        readings: Encoder -> its reading, in the order of the plan.
        duplicates: Image, its copy, "exact" or "near".
        means_of: The means that are kept for the median; `None` without it.
    """

    plan: Plan
    images: Columns
    readings: Mapping[str, EncoderReadings]
    duplicates: Sequence[tuple[str, str, str]]
    means_of: MeansOf | None

    @property
    def membership(self) -> Membership:
        """Membership, `[N, K]` int8: 1 the encoder saw the image, 0 it did not, -1 unknown."""
        unknown = [-1] * len(self.images["id"])
        listed = [self.images.get(f"member/{name}", unknown) for name in self.readings]
        return np.stack([np.asarray(each, dtype=np.int8) for each in listed], 1)


@dataclass(frozen=True)
class Tables:
    """Columns of the result files, as `write_run` takes them, and the states by layer."""

    samples: Columns
    units: Columns
    layers: Columns
    encoders: Columns
    state: dict[str, Tensor]
    significance: Significance | None


def tables(measured: Measured) -> Tables:
    """Computes every score and lays them out.

    Args:
        measured: What was measured.

    Returns:
        The tables.

    Raises:
        DataError: If the design of the trainings allows no score, or two encoders are one training.
    """
    images, membership = measured.images, measured.membership
    scores, roles = scores_of(measured)
    made = columns(scores, images)
    known = membership_columns(membership, roles, [str(name) for name in images["id"]], measured.duplicates)
    state = {
        f"{layer.name}/{kind}/{key}": value
        for layer in layer_states(replace(measured, means_of=None), roles)
        for first in itertools.islice(layer.encoders, 1)
        for kind, values in (("unitmem", first.units), ("classmem", first.classes))
        for key, value in values.items()
    }
    return Tables(
        samples=known | _kept(made["samples"], measured.plan),
        units=made["units"],
        layers=made["layers"],
        encoders=encoder_columns(scores, roles, membership),
        state=state,
        significance=None if scores.family is None else scores.family.significance,
    )


def scores_of(measured: Measured) -> tuple[RunScores, dict[str, str]]:
    """Computes every score.

    Args:
        measured: What was measured.

    Returns:
        The scores; and encoder -> "f", "g", or "" where encoders have no roles.

    Raises:
        DataError: If the design of the trainings allows no score, or two encoders are one training.
    """
    plan, images = measured.plan, measured.images
    family = family_scores(measured.readings, _seen(images, measured.membership), plan)
    roles = _roles(plan, family)
    scores = run_scores(
        layer_states(measured, roles),
        output=plan.output,
        rest="mean" if measured.means_of is None else "median",
        groups=candidate_groups(torch.tensor(list(images["candidate"]), dtype=torch.bool)),
        blocks=plan.blocks,
        family=family,
    )
    return scores, roles


def known_columns(images: Columns) -> Columns:
    """Selects the columns of images that say anything; one that is null everywhere was not given."""
    return {name: values for name, values in images.items() if any(value is not None for value in values)}


def _seen(images: Columns, membership: Membership) -> Seen:
    pictures, labels = images.get("picture"), images.get("label")
    return Seen(
        membership,
        np.asarray(list(images["index"]), dtype=np.int64),
        None if pictures is None else [None if name is None else str(name) for name in pictures],
        None if labels is None else np.asarray([-1 if each is None else each for each in labels], dtype=np.int64),
    )


def _roles(plan: Plan, family: FamilyScores | None) -> dict[str, str]:
    """Encoder -> "f", "g" or "": as the audit was told, else of a design that happens to be a split."""
    roles = {each.name: each.role for each in plan.encoders}
    if any(roles.values()) or family is None or family.design.role is None:
        return roles
    return {name: "f" if f else "g" for name, f in zip(roles, family.design.role, strict=True)}


def layer_states(measured: Measured, roles: Mapping[str, str]) -> Iterator[LayerState]:
    """Makes the states of the layers, one at a time.

    Args:
        measured: What was measured.
        roles: Encoder -> "f", "g" or "".

    Yields:
        The state of each layer, its units those of the f's, or of all encoders where they have no roles.
    """
    of_units = [each for each in measured.plan.encoders if roles[each.name] != "g"]
    for row, layer in enumerate(measured.plan.layers):
        sides = {role: _by_role(measured.readings, roles, role, row) for role in "fg"}
        yield LayerState(layer.name, sides["f"], sides["g"], _encoder_states(measured, of_units, row))


def _by_role(readings: Mapping[str, EncoderReadings], roles: Mapping[str, str], role: str, row: int) -> Tensor | None:
    """Mean alignment of a layer over the encoders of a role, `[N]`; that of one encoder as it is."""
    own = [each.alignment[row] for name, each in readings.items() if roles[name] == role]
    if len(own) < 2:
        return own[0] if own else None
    return torch.stack(own).double().mean(0).float()


def _encoder_states(measured: Measured, encoders: Sequence[EncoderPlan], row: int) -> Iterator[EncoderState]:
    """The states of a layer's units, encoder by encoder."""
    for each in encoders:
        reading = measured.readings[each.name]
        own = slice(sum(each.units[:row]), sum(each.units[: row + 1]))
        units = {key: value[own] if value.ndim else value for key, value in reading.units.items() if key != "means"}
        if measured.means_of is not None:
            units["means"] = measured.means_of(each.name, own)
        classes = {**reading.classes, "sums": reading.classes["sums"][:, own]} if reading.classes else {}
        yield EncoderState(each.name, units, classes)


def columns(scores: RunScores, images: Columns) -> dict[str, Columns]:
    """Lays the scores of a run out as the columns of the tables "samples", "units" and "layers".

    Args:
        scores: The scores of the run.
        images: Columns id and index, and those that the table of images takes over.

    Returns:
        Table -> its columns.
    """
    id_of = dict(zip(images["index"], images["id"], strict=True))
    return {"samples": _samples(images, scores), "units": _units(scores, id_of), "layers": _layers(scores)}


def candidate_groups(candidate: Tensor) -> dict[str, Tensor]:
    """Finds the rows of candidates and others, from one flag per image `[N]`; no groups without candidates."""
    if not candidate.any():
        return {}
    return {"candidates": candidate.nonzero()[:, 0], "others": (~candidate).nonzero()[:, 0]}


def _samples(images: Columns, scores: RunScores) -> Columns:
    columns: Columns = {name: values for name, values in images.items() if name in SAMPLES}
    names = [layer.name for layer in scores.layers]
    if scores.family is not None:
        columns |= sample_columns(scores.family, names)
    if scores.sslmem is not None:
        missing = scores.layers[0].alignment_f is None  # what cannot be scored is null where encoders have no roles
        columns["sslmem"] = scores.sslmem.numpy() if missing else scores.sslmem
    for layer in scores.layers:
        columns[f"alignment_f/{layer.name}"] = _all_null(layer.alignment_f, images)
        if layer.alignment_g is not None or layer.alignment_f is None:
            columns[f"alignment_g/{layer.name}"] = _all_null(layer.alignment_g, images)
    return columns


def _kept(samples: Columns, plan: Plan) -> Columns:
    """The columns of images without those of layers that are not kept."""
    if plan.keep == "all":
        return samples
    left_out = {
        f"{start}/{layer.name}"
        for start in ("alignment_f", "alignment_g", "a_in", "a_out")
        for layer in plan.layers
        if layer.name != plan.output
    }
    return {name: values for name, values in samples.items() if name not in left_out}


def _all_null(values: Tensor | None, images: Columns) -> Column:
    return [None] * len(images["id"]) if values is None else values


def _units(scores: RunScores, id_of: Mapping[int, str]) -> Columns:
    """The table of units: those of all layers in one encoder, then in the next."""
    blocks = [(name, layer, layer.encoders[name]) for name in scores.layers[0].encoders for layer in scores.layers]
    index = torch.cat([own.units.index for _, _, own in blocks])
    columns: Columns = {
        "encoder": [name for name, _, own in blocks for _ in own.unitmem],
        "layer": [layer.name for _, layer, own in blocks for _ in own.unitmem],
        "unit": [unit for _, _, own in blocks for unit in range(len(own.unitmem))],
        "unitmem": torch.cat([own.unitmem for _, _, own in blocks]),
        "peak": torch.cat([own.units.peak for _, _, own in blocks]),
        "rest": torch.cat([own.units.rest for _, _, own in blocks]),
        "peak_id": [id_of[position] for position in index.tolist()],
        "peak_index": index,
        "signed": torch.cat([own.signed for _, _, own in blocks]),
    }
    classes = [own.classes for _, _, own in blocks if own.classes is not None]
    if classes:
        columns["classmem"] = torch.cat([each.score for each in classes])
        columns["peak_class"] = torch.cat([each.index for each in classes])
    return columns


def _layers(scores: RunScores) -> Columns:
    """The table of layers: NaN is a score that is undefined, null one that was not measured or does not exist."""
    layers = scores.layers
    columns: Columns = {
        "layer": [layer.name for layer in layers],
        "order": list(range(len(layers))),
        "units": [len(layer.unitmem) for layer in layers],
        "kind": [None if layer.sublayer is None else layer.sublayer.kind for layer in layers],
        "block": [None if layer.sublayer is None else layer.sublayer.block for layer in layers],
        "alignment_f": [layer.mean_alignment_f for layer in layers],
        "unitmem_mean": [layer.mean_unitmem for layer in layers],
        "unitmem_se": [layer.se_unitmem for layer in layers],
        "unitmem_max": [layer.max_unitmem for layer in layers],
        "dead": [layer.n_dead for layer in layers],
        "signed": [layer.n_signed for layer in layers],
        "undefined": [layer.n_undefined for layer in layers],
        "unbounded": [layer.n_unbounded for layer in layers],
    }
    if layers[0].classmem is not None:
        columns["classmem_mean"] = [layer.mean_classmem for layer in layers]
        columns["classmem_se"] = [layer.se_classmem for layer in layers]
    if scores.sslmem is None:
        return columns
    if scores.family is not None:
        columns |= layer_columns(scores.family)
    groups = {column: group for column, group in GROUPS.items() if group in scores.groups}
    columns.update({column: [layer.layermem[group] for layer in layers] for column, group in groups.items()})
    columns["layermem_range"] = [layer.layermem_range for layer in layers]
    columns["alignment_g"] = [layer.mean_alignment_g for layer in layers]
    for column, group in (("delta", "all"), ("delta_candidates", "candidates")):
        if group in scores.groups:
            columns[column] = [_null(layer.delta[group]) for layer in layers]
    columns["delta_sublayer"] = [layer.sublayer and _null(layer.sublayer.sublayer) for layer in layers]
    columns["delta_block"] = [layer.sublayer and _null(layer.sublayer.block_delta) for layer in layers]
    return columns


def _null(value: float) -> float | None:
    """A difference that does not exist is null."""
    return None if math.isnan(value) else value
