"""Every score of a run, from the states of its layers: state in, scores out. No files, no devices, no forward passes.

The tables of a RUN folder, `Monitor`, the lab and the demo all call `run_scores`; nothing else in memkern turns what
was read of an encoder into SSLMem, LayerMem and its differences, UnitMem and ClassMem.

Letters in shapes: N images, U units of a layer, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from memkern.audit.taps.transformer_blocks import Block, Delta, sublayer_deltas
from memkern.errors import ArgumentValueError
from memkern.metrics.classes import ClassMem, ClassStats
from memkern.metrics.units import UnitMem, UnitStats
from memkern.scores import delta_layermem, signed_units, sslmem_score, undefined

N_EXTREME = 50
"""Images in the groups "most" and "least", as in the paper's tables."""

ALL, MOST, LEAST = "all", "most", "least"
"""Groups of images that every run has: all of them, and the most and the least memorized ones."""


@dataclass(frozen=True)
class LayerState:
    """State of one layer once every image has been seen.

    Attributes:
        name: The layer.
        alignment_f: Mean distance between the views of each image under f, `[N]`.
        alignment_g: Mean distance between the views of each image under the reference g, `[N]`; `None` without one.
        units: State of `memkern.UnitMem`: peak, index, rest, low `[U]` and count; for the median also means `[N, U]`.
        classes: State of `memkern.ClassMem`: sums `[C, U]`, count `[C]`, wide; empty without labels.
    """

    name: str
    alignment_f: Tensor
    alignment_g: Tensor | None
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]


@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer.

    Attributes:
        name: The layer.
        alignment_f: Mean distance between the views of each image under f, `[N]`.
        alignment_g: Mean distance between the views of each image under g, `[N]`; `None` without a reference.
        ratio: SSLMem of each image as a share, (A_g - A_f) / (A_g + A_f), `[N]`; `None` without a reference.
        units: UnitMem of each unit and its parts, `[U]`.
        signed: Whether a mean of the unit is negative for some image, `[U]` bool: its score has no bounds then.
        classes: ClassMem of each unit and its parts, `[U]`; `None` without labels.
        layermem: Group of images -> LayerMem, the mean of `ratio` over the group; `None` for an empty group. No entry
            without a reference.
        layermem_range: Mean of (A_g - A_f) / (max - min) over all images, as the released scripts scale it; `None`
            without a reference.
        delta: Group of images -> LayerMem minus that of the layer before; NaN for the first layer.
        sublayer: What the layer adds within its transformer block; `None` outside of blocks.
    """

    name: str
    alignment_f: Tensor
    alignment_g: Tensor | None
    ratio: Tensor | None
    units: UnitStats
    signed: Tensor
    classes: ClassStats | None
    layermem: Mapping[str, float | None]
    layermem_range: float | None
    delta: Mapping[str, float]
    sublayer: Delta | None

    @property
    def unitmem(self) -> Tensor:
        """UnitMem of each unit, `[U]`; NaN where it is undefined."""
        score: Tensor = self.units.score
        return score

    @property
    def classmem(self) -> Tensor | None:
        """ClassMem of each unit, `[U]`; `None` without labels."""
        return None if self.classes is None else self.classes.score

    @property
    def n_dead(self) -> int:
        """Number of units that are 0 on every image; they score 0."""
        return int(self.units.n_dead)

    @property
    def n_signed(self) -> int:
        """Number of units that have a negative mean for some image."""
        return int(self.units.n_signed)

    @property
    def n_undefined(self) -> int:
        """Number of units that have no UnitMem."""
        return int(self.units.n_undefined)

    @property
    def mean_alignment_f(self) -> float | None:
        """Mean of `alignment_f` over the images; NaN if one is."""
        return mean(self.alignment_f)

    @property
    def mean_alignment_g(self) -> float | None:
        """Mean of `alignment_g` over the images; `None` without a reference."""
        return None if self.alignment_g is None else mean(self.alignment_g)

    @property
    def mean_unitmem(self) -> float | None:
        """Mean UnitMem of the units where it is defined; `None` if there are none."""
        return mean(defined(self.unitmem))

    @property
    def max_unitmem(self) -> float | None:
        """Largest UnitMem of the units where it is defined; `None` if there are none."""
        known = defined(self.unitmem)
        return float(known.max()) if len(known) else None

    @property
    def mean_classmem(self) -> float | None:
        """Mean ClassMem of the units where it is defined; `None` if there are none, or no labels."""
        return None if self.classmem is None else mean(defined(self.classmem))


@dataclass(frozen=True)
class RunScores:
    """Scores of a run.

    Attributes:
        layers: The layers in forward order.
        output: The layer at which SSLMem is measured.
        sslmem: A_g - A_f of each image at the output (arXiv:2409.19069, Eq. 1), `[N]`; `None` without a reference.
        groups: Group of images -> its rows, int64. "all" is always there; "most" and "least" with a reference.
    """

    layers: tuple[LayerScores, ...]
    output: str
    sslmem: Tensor | None
    groups: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> LayerScores:
        return next(layer for layer in self.layers if layer.name == name)


def run_scores(
    layers: Iterable[LayerState],
    *,
    output: str,
    rest: str = "mean",
    groups: Mapping[str, Tensor] | None = None,
    ranked: Tensor | None = None,
    blocks: Sequence[Block] = (),
) -> RunScores:
    """Computes every score of a run.

    Args:
        layers: The states in forward order. They are taken one by one, and means that are kept for the median are let
            go of before the next one is asked for, so a generator has those of one layer in memory.
        output: Name of the layer at which SSLMem is measured.
        rest: "mean" or "median" of the other images, against which UnitMem sets the peak.
        groups: Name -> rows of the images, int64 `[n]`, of which LayerMem is wanted besides all, most and least.
        ranked: Rows among which the most and the least memorized images are taken, int64 `[n]`; default: all.
        blocks: The transformer blocks among the layers.

    Returns:
        The scores.

    Raises:
        ArgumentValueError: If `output` is not among the layers, or fewer than 2 images or 2 classes were seen.
    """
    read = list(map(partial(_read, rest=rest), layers))  # map, for a loop would hold a state while the next is made
    places = [place for place, layer in enumerate(read) if layer.name == output]
    if not places:
        raise ArgumentValueError(
            f"Expected `output` to be one of the layers {[layer.name for layer in read]}, got {output!r}"
        )
    at_output = read[places[0]]
    sslmem = None
    rows = {ALL: torch.arange(len(at_output.alignment_f))}
    if at_output.alignment_g is not None:
        sslmem = sslmem_score(at_output.alignment_f, at_output.alignment_g)
        rows |= _extremes(sslmem, rows[ALL] if ranked is None else ranked)
    rows |= groups or {}
    return RunScores(tuple(_compared(read, rows, blocks)), output, sslmem, rows)


@dataclass(frozen=True)
class _Read:
    """Scores of one layer that need no other layer."""

    name: str
    alignment_f: Tensor
    alignment_g: Tensor | None
    units: UnitStats
    signed: Tensor
    classes: ClassStats | None


def _read(state: LayerState, rest: str) -> _Read:
    units, classes = UnitMem(rest=rest), ClassMem()
    units.load_state_dict(dict(state.units))
    classes.load_state_dict(dict(state.classes))
    return _Read(
        state.name,
        state.alignment_f,
        state.alignment_g,
        units.stats(),
        signed_units(state.units["low"]),
        classes.stats() if state.classes else None,
    )


def _extremes(sslmem: Tensor, among: Tensor) -> dict[str, Tensor]:
    """The rows of the most and of the least memorized images, each in that order."""
    order = among[sslmem[among].argsort(descending=True, stable=True)]
    return {MOST: order[:N_EXTREME], LEAST: order.flip(0)[:N_EXTREME]}


def _compared(read: Sequence[_Read], groups: Mapping[str, Tensor], blocks: Sequence[Block]) -> Iterable[LayerScores]:
    """The layers with what compares f with g, and a layer with those before it."""
    ratios = [None if r.alignment_g is None else sslmem_score(r.alignment_f, r.alignment_g, "ratio") for r in read]
    layermem = [{} if s is None else {name: mean(s[rows]) for name, rows in groups.items()} for s in ratios]
    delta = {name: delta_layermem([_number(values.get(name)) for values in layermem]) for name in groups}
    at = {layer.name: _number(values.get(ALL)) for layer, values in zip(read, layermem, strict=True)}
    sublayers = sublayer_deltas(at, blocks)
    for place, (layer, ratio) in enumerate(zip(read, ratios, strict=True)):
        scaled = None
        if layer.alignment_g is not None:
            scaled = mean(sslmem_score(layer.alignment_f, layer.alignment_g, "range"))
        yield LayerScores(
            name=layer.name,
            alignment_f=layer.alignment_f,
            alignment_g=layer.alignment_g,
            ratio=ratio,
            units=layer.units,
            signed=layer.signed,
            classes=layer.classes,
            layermem=layermem[place],
            layermem_range=scaled,
            delta={} if ratio is None else {name: values[place] for name, values in delta.items()},
            sublayer=sublayers.get(layer.name),
        )


def mean(values: Tensor) -> float | None:
    """Computes the mean in float64 of values `[n]`; `None` of none, NaN if one is NaN."""
    return float(values.double().mean()) if values.numel() else None


def defined(values: Tensor) -> Tensor:
    """Selects the values, `[n]`, that are not NaN: those of units whose score is defined."""
    return values[~undefined(values)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
