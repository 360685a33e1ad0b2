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

import numpy as np
import torch
from torch import Tensor

from memkern import families
from memkern.audit.measure.family import FamilyScores
from memkern.audit.taps.transformer_blocks import Block, Delta, sublayer_deltas
from memkern.errors import ArgumentValueError
from memkern.metrics.classes import ClassMem, ClassStats
from memkern.metrics.units import UnitMem, UnitStats
from memkern.scores import delta_layermem, signed_units, sslmem_score, undefined

ALL = "all"
"""Group of images that every run has: all of them, or in a varying design those that are scored."""

ROUNDING = 1e-6
"""Scores of float32 means lie in [0, 1] within this."""


@dataclass(frozen=True)
class EncoderState:
    """State of the units of one layer in one encoder, once every image has been seen.

    Attributes:
        encoder: Name of the encoder.
        units: State of `memkern.UnitMem`: peak, index, rest, low `[U]` and count; for the median also means `[N, U]`.
        classes: State of `memkern.ClassMem`: sums `[C, U]`, count `[C]`, wide; empty without labels.
    """

    encoder: str
    units: Mapping[str, Tensor]
    classes: Mapping[str, Tensor]


@dataclass(frozen=True)
class LayerState:
    """State of one layer once every image has been seen.

    Attributes:
        name: The layer.
        alignment_f: Mean distance between the views of each image under f, `[N]`: of several f's, the mean. `None` if
            the encoders are not of two roles.
        alignment_g: The same under the reference g, `[N]`; `None` without one.
        encoders: The units of each encoder in which they are measured, read once and in order.
    """

    name: str
    alignment_f: Tensor | None
    alignment_g: Tensor | None
    encoders: Iterable[EncoderState]


@dataclass(frozen=True)
class UnitScores:
    """Scores of the units of one layer in one encoder.

    Attributes:
        units: UnitMem of each unit and its parts, `[U]`.
        signed: Whether a mean of the unit is negative for some image, `[U]` bool: its score has no bounds then.
        classes: ClassMem of each unit and its parts, `[U]`; `None` without labels.
    """

    units: UnitStats
    signed: Tensor
    classes: ClassStats | None

    @property
    def unitmem(self) -> Tensor:
        """UnitMem of each unit, `[U]`; NaN where it is undefined."""
        score: Tensor = self.units.score
        return score

    @property
    def classmem(self) -> Tensor | None:
        """ClassMem of each unit, `[U]`; `None` without labels."""
        return None if self.classes is None else self.classes.score


@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer. Numbers of units are those of the first encoder, their means over all encoders.

    Attributes:
        name: The layer.
        alignment_f: Mean distance between the views of each image under f, `[N]`; `None` if encoders have no roles.
        alignment_g: Mean distance between the views of each image under g, `[N]`; `None` without a reference.
        ratio: SSLMem of each image as a share, (A_g - A_f) / (A_g + A_f), `[N]`; `None` without a reference.
        encoders: Encoder -> scores of its units.
        layermem: Group of images -> LayerMem, the mean of `ratio` over the group; `None` for an empty group. No entry
            without a reference.
        layermem_range: Mean of (A_g - A_f) / (max - min) over all images, as the released scripts scale it; `None`
            without a reference.
        delta: Group of images -> LayerMem minus that of the layer before; NaN for the first layer.
        sublayer: What the layer adds within its transformer block; `None` outside of blocks.
    """

    name: str
    alignment_f: Tensor | None
    alignment_g: Tensor | None
    ratio: Tensor | None
    encoders: Mapping[str, UnitScores]
    layermem: Mapping[str, float | None]
    layermem_range: float | None
    delta: Mapping[str, float]
    sublayer: Delta | None

    @property
    def first(self) -> UnitScores:
        """Scores of the units of the first encoder."""
        return next(iter(self.encoders.values()))

    @property
    def units(self) -> UnitStats:
        """UnitMem of each unit of the first encoder and its parts, `[U]`."""
        return self.first.units

    @property
    def signed(self) -> Tensor:
        """Flags, `[U]` bool, of the units of the first encoder that have a negative mean for some image."""
        return self.first.signed

    @property
    def classes(self) -> ClassStats | None:
        """ClassMem of each unit of the first encoder and its parts, `[U]`; `None` without labels."""
        return self.first.classes

    @property
    def unitmem(self) -> Tensor:
        """UnitMem of each unit of the first encoder, `[U]`; NaN where it is undefined."""
        return self.first.unitmem

    @property
    def classmem(self) -> Tensor | None:
        """ClassMem of each unit of the first encoder, `[U]`; `None` without labels."""
        return self.first.classmem

    @property
    def n_dead(self) -> int:
        """Number of units that are 0 on every image, of all encoders; they score 0."""
        return sum(int(each.units.n_dead) for each in self.encoders.values())

    @property
    def n_signed(self) -> int:
        """Number of units that have a negative mean for some image, of all encoders."""
        return sum(int(each.units.n_signed) for each in self.encoders.values())

    @property
    def n_undefined(self) -> int:
        """Number of units that have no UnitMem, of all encoders."""
        return sum(int(each.units.n_undefined) for each in self.encoders.values())

    @property
    def n_unbounded(self) -> int:
        """Number of units whose UnitMem is outside of [0, 1], of all encoders; no mean has them."""
        each = [scores.unitmem for scores in self.encoders.values()]
        return sum(len(defined(values)) - len(bounded(values)) for values in each)

    @property
    def mean_alignment_f(self) -> float | None:
        """Mean of `alignment_f` over the images; NaN if one is."""
        return None if self.alignment_f is None else mean(self.alignment_f)

    @property
    def mean_alignment_g(self) -> float | None:
        """Mean of `alignment_g` over the images; `None` without a reference."""
        return None if self.alignment_g is None else mean(self.alignment_g)

    @property
    def mean_unitmem(self) -> float | None:
        """Mean over encoders of the mean UnitMem of the units where it is bounded; `None` if there are none."""
        return mean_of(mean(bounded(each.unitmem)) for each in self.encoders.values())

    @property
    def max_unitmem(self) -> float | None:
        """Mean over encoders of the largest UnitMem of the units where it is bounded; `None` if there are none."""
        known = [bounded(each.unitmem) for each in self.encoders.values()]
        return mean_of(float(each.max()) if len(each) else None for each in known)

    @property
    def mean_classmem(self) -> float | None:
        """Mean over encoders of the mean ClassMem of the units where it is bounded; `None` if there are none."""
        return mean_of(None if c is None else mean(bounded(c)) for c in self._classmem())

    @property
    def se_unitmem(self) -> float | None:
        """Standard error of `mean_unitmem` over encoders; `None` with one."""
        return _standard_error([each.unitmem for each in self.encoders.values()])

    @property
    def se_classmem(self) -> float | None:
        """Standard error of `mean_classmem` over encoders; `None` with one."""
        return _standard_error([each for each in self._classmem() if each is not None])

    def _classmem(self) -> list[Tensor | None]:
        return [each.classmem for each in self.encoders.values()]


@dataclass(frozen=True)
class RunScores:
    """Scores of a run.

    Attributes:
        layers: The layers in forward order.
        output: The layer at which SSLMem is measured.
        sslmem: A_g - A_f of each image at the output (arXiv:2409.19069, Eq. 1), `[N]`; `None` without a reference. In a
            varying design the mean over encoders that did not see the image minus that over those that did, after
            levels, NaN where an image has no such encoders.
        groups: Group of images -> its rows, int64. "all" is always there.
        family: Scores over trainings; `None` where nothing is known of who saw which image.
    """

    layers: tuple[LayerScores, ...]
    output: str
    sslmem: Tensor | None
    groups: Mapping[str, Tensor]
    family: FamilyScores | None = None

    def __getitem__(self, name: str) -> LayerScores:
        return next(layer for layer in self.layers if layer.name == name)


def run_scores(
    layers: Iterable[LayerState],
    *,
    output: str,
    rest: str = "mean",
    groups: Mapping[str, Tensor] | None = None,
    blocks: Sequence[Block] = (),
    family: FamilyScores | None = None,
) -> RunScores:
    """Computes every score of a run.

    Args:
        layers: The states in forward order. They are taken one by one, and means that are kept for the median are let
            go of before the next one is asked for, so a generator has those of one layer in memory.
        output: Name of the layer at which SSLMem is measured.
        rest: "mean" or "median" of the other images, against which UnitMem sets the peak.
        groups: Name -> rows of the images, int64 `[n]`, of which LayerMem is wanted besides all.
        blocks: The transformer blocks among the layers.
        family: Scores over trainings. Where the encoders have no roles, SSLMem and LayerMem are theirs.

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
    sslmem, rows = None, {}
    if at_output.alignment_f is not None:
        rows = {ALL: torch.arange(len(at_output.alignment_f)), **(groups or {})}
        if at_output.alignment_g is not None:
            sslmem = sslmem_score(at_output.alignment_f, at_output.alignment_g)
    elif family is not None:
        rows = {ALL: torch.from_numpy(np.flatnonzero(family.design.scored))}
        sslmem = torch.from_numpy(family.images.sslmem[family.output]).float()
    return RunScores(tuple(_compared(read, rows, blocks, family)), output, sslmem, rows, family)


@dataclass(frozen=True)
class _Read:
    """Scores of one layer that need no other layer."""

    name: str
    alignment_f: Tensor | None
    alignment_g: Tensor | None
    encoders: Mapping[str, UnitScores]


def _read(state: LayerState, rest: str) -> _Read:
    encoders = {each.encoder: _unit_scores(each, rest) for each in state.encoders}
    return _Read(state.name, state.alignment_f, state.alignment_g, encoders)


def _unit_scores(state: EncoderState, rest: str) -> UnitScores:
    units, classes = UnitMem(rest=rest), ClassMem()
    units.load_state_dict(dict(state.units))
    classes.load_state_dict(dict(state.classes))
    return UnitScores(units.stats(), signed_units(state.units["low"]), classes.stats() if state.classes else None)


@dataclass(frozen=True)
class _Sides:
    """Comparison of f with g in one layer, or of encoders out with encoders in."""

    ratio: Tensor | None
    layermem: Mapping[str, float | None]
    layermem_range: float | None


def _sides(place: int, layer: _Read, groups: Mapping[str, Tensor], family: FamilyScores | None) -> _Sides:
    if layer.alignment_f is not None and layer.alignment_g is not None:
        ratio = sslmem_score(layer.alignment_f, layer.alignment_g, "ratio")
        scaled = sslmem_score(layer.alignment_f, layer.alignment_g, "range")
        return _Sides(ratio, {name: mean(ratio[rows]) for name, rows in groups.items()}, mean(scaled))
    if layer.alignment_f is None and family is not None:
        scored, images = family.design.scored, family.images
        inside, outside = (torch.from_numpy(side[place][scored]) for side in (images.a_in, images.a_out))
        return _Sides(None, {ALL: float(family.layers.layermem[place])}, mean(sslmem_score(inside, outside, "range")))
    return _Sides(None, {}, None)


def _compared(
    read: Sequence[_Read], groups: Mapping[str, Tensor], blocks: Sequence[Block], family: FamilyScores | None
) -> Iterable[LayerScores]:
    """The layers with what compares f with g, and a layer with those before it."""
    sides = [_sides(place, layer, groups, family) for place, layer in enumerate(read)]
    delta = {name: delta_layermem([_number(each.layermem.get(name)) for each in sides]) for name in groups}
    at = {layer.name: _number(each.layermem.get(ALL)) for layer, each in zip(read, sides, strict=True)}
    sublayers = sublayer_deltas(at, blocks)
    for place, (layer, each) in enumerate(zip(read, sides, strict=True)):
        yield LayerScores(
            name=layer.name,
            alignment_f=layer.alignment_f,
            alignment_g=layer.alignment_g,
            ratio=each.ratio,
            encoders=layer.encoders,
            layermem=each.layermem,
            layermem_range=each.layermem_range,
            delta={name: values[place] for name, values in delta.items()} if each.layermem else {},
            sublayer=sublayers.get(layer.name),
        )


def mean(values: Tensor) -> float | None:
    """Computes the mean in float64 of values `[n]`; `None` of none, NaN if one is NaN."""
    return float(values.double().mean()) if values.numel() else None


def mean_of(values: Iterable[float | None]) -> float | None:
    """Computes the mean of numbers without those that are `None`; `None` of none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def defined(values: Tensor) -> Tensor:
    """Selects the values, `[n]`, that are not NaN: those of units whose score is defined."""
    return values[~undefined(values)]


def bounded(values: Tensor) -> Tensor:
    """Selects the scores of units, `[n]`, that lie in [0, 1], as they do where no mean activation is negative.

    Other scores, of units whose peak or others are negative, have no bounds: one of them could be any mean.
    """
    return values[(values >= -ROUNDING) & (values <= 1 + ROUNDING)]


def _standard_error(scores: Sequence[Tensor]) -> float | None:
    """Standard error over encoders of the mean over units with a bounded score."""
    known = [values for values in map(bounded, scores) if values.numel()]
    return families.unit_means(known).se if len(known) > 1 else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
