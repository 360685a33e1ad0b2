"""From the shards of an audit to its tables: formulas of `memkern.scores`, applied per layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memkern.audit.measure.shard_files import Shard
from memkern.audit.taps.transformer_blocks import Block, sublayer_deltas
from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem
from memkern.ops.median_of_others import median_of_others
from memkern.scores import delta_layermem, selectivity_score, sslmem_score

TOP = 50
"""Images in the columns of the most and the least memorized ones, as in the paper's tables."""


@dataclass(frozen=True)
class Measured:
    """The states of all shards, put together in their order.

    Attributes:
        alignment_f: `[L, N]`.
        alignment_g: `[L, N]`, or `[0, N]` without a reference.
        units: State of `UnitMem` over the units of all layers side by side.
        classes: State of `ClassMem` over them; empty without labels.
        seconds: What each part of the work took, `[len(PARTS)]`.
    """

    alignment_f: Tensor
    alignment_g: Tensor
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]
    seconds: Tensor

    @property
    def has_reference(self) -> bool:
        """Whether there is a reference encoder."""
        return len(self.alignment_g) > 0


def put_together(shards: Iterable[Shard]) -> Measured:
    """Folds shards in the given order; one is in memory at a time.

    The order fixes the bits of the float64 sums; peaks and alignments are the same in any.
    """
    units, classes = UnitMem(), ClassMem()
    alignment_f, alignment_g, seconds = [], [], []
    for shard in shards:
        alignment_f.append(shard.alignment_f)
        alignment_g.append(shard.alignment_g)
        seconds.append(shard.seconds)
        part, of_classes = UnitMem(), ClassMem()
        # The means kept for the median stay in the file: they are read layer by layer.
        part.load_state_dict({name: value for name, value in shard.units.items() if name != "means"})
        of_classes.load_state_dict(dict(shard.classes))
        units.merge(part)
        classes.merge(of_classes)
    return Measured(
        torch.cat(alignment_f, 1),
        torch.cat(alignment_g, 1),
        units.state_dict(),
        classes.state_dict(),
        torch.stack(seconds).sum(0),
    )


@dataclass(frozen=True)
class Tables:
    """Columns of the result files, as `store.write_run` takes them, and the states by layer."""

    samples: dict[str, Any]
    units: dict[str, Any]
    layers: dict[str, Any]
    state: dict[str, Tensor]


def tables(
    plan: Mapping[str, Any],
    images: Mapping[str, Sequence[Any]],
    measured: Measured,
    means_of: Callable[[int, int], Tensor] | None,
) -> Tables:
    """Computes every score.

    Args:
        plan: The plan of the audit.
        images: Columns id, index, path, label, candidate; one entry per image.
        measured: What was measured.
        means_of: For the median: first unit, one after the last -> `[N, units]` of the means of all images.

    Returns:
        The tables.
    """
    names = [layer["name"] for layer in plan["layers"]]
    counts = [layer["units"] for layer in plan["layers"]]
    output = names.index(plan["output"])
    sslmem = None
    if measured.has_reference:
        sslmem = sslmem_score(measured.alignment_f[output], measured.alignment_g[output])
    samples = {**images, "sslmem": sslmem}
    for row, name in enumerate(names):
        samples[f"alignment_f/{name}"] = measured.alignment_f[row]
        if measured.has_reference:
            samples[f"alignment_g/{name}"] = measured.alignment_g[row]
    units, per_layer, state = _units(names, counts, images, measured, means_of)
    layers = {
        "layer": names,
        "order": list(range(len(names))),
        "units": counts,
        "alignment_f": [_mean(row) for row in measured.alignment_f],
        **per_layer,
    }
    blocks = [Block(*block) for block in plan["blocks"]]
    kinds = sublayer_deltas(dict.fromkeys(names, 0.0), blocks)
    layers["kind"] = [kinds[name].kind if name in kinds else None for name in names]
    layers["block"] = [kinds[name].block if name in kinds else None for name in names]
    if sslmem is not None:
        candidates = torch.tensor(list(images["candidate"]), dtype=torch.bool)
        layers |= _layermem(names, measured, sslmem, candidates, blocks)
    return Tables({name: column for name, column in samples.items() if column is not None}, units, layers, state)


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if values.numel() else None


def _units(
    names: Sequence[str],
    counts: Sequence[int],
    images: Mapping[str, Sequence[Any]],
    measured: Measured,
    means_of: Callable[[int, int], Tensor] | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """The table of units, the columns of the table of layers that come from units, and the states by layer."""
    id_of = dict(zip(images["index"], images["id"], strict=True))
    score, rest, classmem, peak_class = [], [], [], []
    state: dict[str, Tensor] = {}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("unitmem_mean", "unitmem_max", "classmem_mean", "dead", "signed", "undefined")
    }
    start = 0
    for name, count in zip(names, counts, strict=True):
        part = slice(start, start + count)
        own = {key: value[part] if value.ndim else value for key, value in measured.units.items()}
        others = own["rest"] / (own["count"] - 1)
        if means_of is not None:
            others = median_of_others(means_of(start, start + count)).double()
        score.append(selectivity_score(own["peak"], others).to(own["peak"].dtype))
        rest.append(others.to(own["peak"].dtype))
        state |= {f"{name}/unitmem/{key}": value for key, value in own.items()}
        numbers = score[-1][~score[-1].isnan()]
        columns["unitmem_mean"].append(_mean(numbers))
        columns["unitmem_max"].append(float(numbers.max()) if len(numbers) else None)
        columns["dead"].append(int(((own["peak"] == 0) & (own["low"] == 0)).sum()))
        columns["signed"].append(int((own["low"] < 0).sum()))
        columns["undefined"].append(int(score[-1].isnan().sum()))
        if measured.classes:
            classes = ClassMem()
            of_layer = {**measured.classes, "sums": measured.classes["sums"][:, part]}
            classes.load_state_dict(of_layer)
            stats = classes.stats()
            classmem.append(stats.score)
            peak_class.append(stats.index)
            columns["classmem_mean"].append(_mean(stats.score[~stats.score.isnan()]))
            state |= {f"{name}/classmem/{key}": value for key, value in of_layer.items()}
        start += count
    index = measured.units["index"]
    units: dict[str, Any] = {
        "layer": [name for name, count in zip(names, counts, strict=True) for _ in range(count)],
        "unit": [unit for count in counts for unit in range(count)],
        "unitmem": torch.cat(score),
        "peak": measured.units["peak"],
        "rest": torch.cat(rest),
        "peak_id": [id_of[position] for position in index.tolist()],
        "peak_index": index,
        "signed": measured.units["low"] < 0,
    }
    if measured.classes:
        units |= {"classmem": torch.cat(classmem), "peak_class": torch.cat(peak_class)}
    return units, {name: column for name, column in columns.items() if column}, state


def _layermem(
    names: Sequence[str], measured: Measured, sslmem: Tensor, candidates: Tensor, blocks: Sequence[Block]
) -> dict[str, list[float | None]]:
    """LayerMem of several groups of images, and its differences between layers.

    The most and least memorized images are taken among the candidates, or among all without candidates.
    """
    among = candidates.nonzero()[:, 0] if candidates.any() else torch.arange(len(sslmem))
    order = among[sslmem[among].argsort(descending=True, stable=True)]
    groups = {
        "layermem": torch.arange(len(sslmem)),
        "layermem_top50": order[:TOP],
        "layermem_least50": order.flip(0)[:TOP],
    }
    if candidates.any():
        groups |= {"layermem_candidates": candidates.nonzero()[:, 0], "layermem_others": (~candidates).nonzero()[:, 0]}
    pairs = list(zip(measured.alignment_f, measured.alignment_g, strict=True))
    ratios = [sslmem_score(a_f, a_g, "ratio") for a_f, a_g in pairs]
    columns: dict[str, list[float | None]] = {
        name: [_mean(ratio[rows]) for ratio in ratios] for name, rows in groups.items()
    }
    columns["alignment_g"] = [_mean(a_g) for _, a_g in pairs]
    columns["layermem_range"] = [_mean(sslmem_score(a_f, a_g, "range")) for a_f, a_g in pairs]
    columns["delta"] = _nulls(delta_layermem(_floats(columns["layermem"])))
    if candidates.any():
        columns["delta_candidates"] = _nulls(delta_layermem(_floats(columns["layermem_candidates"])))
    values = dict(zip(names, _floats(columns["layermem"]), strict=True))
    deltas = sublayer_deltas(values, blocks)
    columns["delta_sublayer"] = _nulls([deltas[name].sublayer if name in deltas else math.nan for name in names])
    columns["delta_block"] = _nulls([deltas[name].block_delta if name in deltas else math.nan for name in names])
    return columns


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _nulls(values: Sequence[float]) -> list[float | None]:
    """Differences that do not exist are null."""
    return [None if math.isnan(value) else value for value in values]
