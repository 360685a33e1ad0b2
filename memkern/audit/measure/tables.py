"""The tables of a RUN folder: the scores of a run laid out as columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memkern.audit.measure.readings import EncoderReadings
from memkern.audit.measure.scores import LayerState, RunScores, run_scores
from memkern.audit.run_folder.schema import Column, Plan

Columns = dict[str, Column]
"""The columns of a table: name -> values."""

GROUPS = {
    "layermem": "all",
    "layermem_top50": "most",
    "layermem_least50": "least",
    "layermem_candidates": "candidates",
    "layermem_others": "others",
}
"""Column of the table of layers -> the group of images whose LayerMem it holds."""


@dataclass(frozen=True)
class Measured:
    """States of all shards, put together in their order.

    Attributes:
        alignment_f: `[L, N]`.
        alignment_g: `[L, N]`, or `[0, N]` without a reference.
        units: State of `UnitMem` over the units of all layers side by side.
        classes: State of `ClassMem` over them; empty without labels.
        seconds: What each phase of the work took, `[len(PHASES)]`.
    """

    alignment_f: Tensor
    alignment_g: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    seconds: Tensor

    def layers(
        self, names: Sequence[str], counts: Sequence[int], means_of: Callable[[int, int], Tensor] | None = None
    ) -> Iterator[LayerState]:
        """Splits the states into those of single layers.

        Args:
            names: The layers in forward order.
            counts: Units of each.
            means_of: For the median: first unit, one after the last -> means of all images `[N, units]`.

        Yields:
            The state of each layer.
        """
        start = 0
        for row, (name, count) in enumerate(zip(names, counts, strict=True)):
            yield self._layer(row, name, slice(start, start + count), means_of)
            start += count

    def _layer(self, row: int, name: str, own: slice, means_of: Callable[[int, int], Tensor] | None) -> LayerState:
        units = {key: value[own] if value.ndim else value for key, value in self.units.items()}
        if means_of is not None:
            units["means"] = means_of(own.start, own.stop)
        classes = {**self.classes, "sums": self.classes["sums"][:, own]} if self.classes else {}
        alignment_g = self.alignment_g[row] if len(self.alignment_g) else None
        return LayerState(name, self.alignment_f[row], alignment_g, units, classes)


def of_pair(f: EncoderReadings, g: EncoderReadings | None, seconds: Tensor) -> Measured:
    """Sets what was read of f beside what was read of g, `None` without a reference; `seconds` is `[len(PHASES)]`."""
    alignment_g = f.alignment.new_zeros((0, f.alignment.shape[1])) if g is None else g.alignment
    return Measured(f.alignment, alignment_g, f.units, f.classes, seconds)


@dataclass(frozen=True)
class Tables:
    """Columns of the result files, as `write_run` takes them, and the states by layer."""

    samples: Columns
    units: Columns
    layers: Columns
    state: dict[str, Tensor]


def tables(
    plan: Plan,
    images: Columns,
    measured: Measured,
    means_of: Callable[[int, int], Tensor] | None,
) -> Tables:
    """Computes every score and lays them out.

    Args:
        plan: The plan of the audit.
        images: Columns id, index, path, label, candidate; one entry per image.
        measured: What was measured.
        means_of: For the median: first unit, one after the last -> `[N, units]` of the means of all images.

    Returns:
        The tables.
    """
    names, counts = [layer.name for layer in plan.layers], [layer.units for layer in plan.layers]
    groups = candidate_groups(torch.tensor(list(images["candidate"]), dtype=torch.bool))
    scores = run_scores(
        measured.layers(names, counts, means_of),
        output=plan.output,
        rest="mean" if means_of is None else "median",
        groups=groups,
        ranked=groups.get("candidates"),
        blocks=plan.blocks,
    )
    state = {
        f"{layer.name}/{kind}/{key}": value
        for layer in measured.layers(names, counts)
        for kind, values in (("unitmem", layer.units), ("classmem", layer.classes))
        for key, value in values.items()
    }
    return Tables(**columns(scores, images), state=state)


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
    columns: Columns = dict(images)
    if scores.sslmem is not None:
        columns["sslmem"] = scores.sslmem
    for layer in scores.layers:
        columns[f"alignment_f/{layer.name}"] = layer.alignment_f
        if layer.alignment_g is not None:
            columns[f"alignment_g/{layer.name}"] = layer.alignment_g
    return columns


def _units(scores: RunScores, id_of: Mapping[int, str]) -> Columns:
    layers = scores.layers
    index = torch.cat([layer.units.index for layer in layers])
    columns: Columns = {
        "layer": [layer.name for layer in layers for _ in layer.unitmem],
        "unit": [unit for layer in layers for unit in range(len(layer.unitmem))],
        "unitmem": torch.cat([layer.unitmem for layer in layers]),
        "peak": torch.cat([layer.units.peak for layer in layers]),
        "rest": torch.cat([layer.units.rest for layer in layers]),
        "peak_id": [id_of[position] for position in index.tolist()],
        "peak_index": index,
        "signed": torch.cat([layer.signed for layer in layers]),
    }
    classes = [layer.classes for layer in layers if layer.classes is not None]
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
        "unitmem_max": [layer.max_unitmem for layer in layers],
        "dead": [layer.n_dead for layer in layers],
        "signed": [layer.n_signed for layer in layers],
        "undefined": [layer.n_undefined for layer in layers],
    }
    if layers[0].classmem is not None:
        columns["classmem_mean"] = [layer.mean_classmem for layer in layers]
    if scores.sslmem is None:
        return columns
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
