"""Scores over trainings: from the readings of K encoders, and who saw which image, to how sure every score is.

The formulas are those of `memkern.families`. Letters in shapes: K encoders, N images, L layers, V views, U units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern import families
from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.run_folder.schema import Plan
from memkern.audit.run_folder.significance import Significance
from memkern.errors import DataError
from memkern.families.design import Control
from memkern.families.images import Level

RANKED_BY_ENCODERS = 4
"""With this many encoders one half of them ranks images, and the other measures; with fewer, halves of the views do."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Membership = NDArray[np.int8]


@dataclass(frozen=True)
class Seen:
    """Membership of images in trainings, and what makes images alike.

    Attributes:
        membership: `[N, K]` int8: 1 the encoder saw the image, 0 did not, -1 unknown.
        index: Position of each image in its data set, `[N]`, by which units name their peaks.
        pictures: Picture that each image was cut from, `[N]`; `None`: one of its own.
        labels: Class of each image, `[N]`; `None` without labels.
    """

    membership: Membership
    index: Ints
    pictures: Sequence[str | None] | None = None
    labels: Ints | None = None


@dataclass(frozen=True)
class Peaks:
    """Images that the units of each layer answer most to.

    Attributes:
        layers: Share of units whose peak is a member, its expectation and its p, for each layer.
        inside: At the output, share of the units of an encoder that peak at an image, mean over the encoders that saw
            it, `[N]`; NaN where none did, or the image is not balanced.
        outside: Mean over the encoders that did not, `[N]`.
    """

    layers: tuple[families.MemberPeaks, ...]
    inside: Floats
    outside: Floats


@dataclass(frozen=True)
class FamilyScores:
    """Scores over trainings of images, layers and encoders.

    Attributes:
        membership: `[N, K]` int8, as it was given.
        output: Place of the layer at which images are called memorized.
        design: What the membership allows; images with a NaN are unknown in it.
        images: Scores of single images, `[L, N]`.
        layers: LayerMem with errors, and cross-fitted groups, `[L]`.
        peaks: Peaks of the units; `None` where there are no balanced images.
        attacks: Success of three attacks on each encoder.
        significance: What may be said of memorization.
    """

    membership: Membership
    output: int
    design: families.Design
    images: families.ImageScores
    layers: families.LayerScores
    peaks: Peaks | None
    attacks: families.Attacks
    significance: Significance

    @property
    def n_memorized(self) -> list[int] | None:
        """Images called memorized in each layer; `None` where nothing can be said."""
        if self.significance.method == "none":
            return None
        return [int((q <= self.images.fdr).sum()) for q in self.images.q]


class _Layers(Sequence[Tensor]):
    """Alignments of all encoders, `[N, K]` of each layer; one layer is copied at a time."""

    def __init__(self, encoders: Sequence[Tensor]) -> None:
        self._encoders = encoders  # [L, N] each

    def __len__(self) -> int:
        return len(self._encoders[0])

    @overload
    def __getitem__(self, place: int) -> Tensor: ...
    @overload
    def __getitem__(self, place: slice) -> list[Tensor]: ...
    def __getitem__(self, place: int | slice) -> Tensor | list[Tensor]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        return torch.stack([each[place] for each in self._encoders], 1)


def family_scores(readings: Mapping[str, EncoderReadings], seen: Seen, plan: Plan) -> FamilyScores | None:
    """Scores images, layers and encoders over trainings.

    Args:
        readings: Encoder -> its reading, the f's of a fixed split first.
        seen: Who saw which image.
        plan: The layers, the output at which images are called memorized, and how to score: `control`, `level`, `fdr`
            and `seed`.

    Returns:
        The scores; `None` where no image is known to be in one encoder and out of another, or too few are without NaN.

    Raises:
        DataError: If no image can be scored, a named control group is too small, or two encoders are one training.
    """
    stack = _Layers([each.alignment for each in readings.values()])
    membership = _without_nan(seen.membership, stack)
    if not ((membership == 1).any(1) & (membership == 0).any(1)).any():
        return None
    control, level = cast("Control", plan.control), cast("Level", plan.level)  # families refuses others
    pictures = _numbered(seen.pictures, len(membership))
    n_nan = int((membership != seen.membership).any(1).sum())
    try:
        design = families.design(membership, pictures=pictures, encoders=list(readings), control=control)
    except DataError:
        if n_nan:  # too few images are left, which nobody could know before
            return None
        raise
    place = [layer.name for layer in plan.layers].index(plan.output)
    rows, halves = [each.rows for each in readings.values()], [each.halves for each in readings.values()]
    by_views = len(readings) < RANKED_BY_ENCODERS and bool(halves[0].shape[2])
    try:
        images = families.image_scores(
            stack,
            design,
            level=level,
            output=place,
            rows=rows if rows[0].shape[1] else None,
            fdr=plan.fdr,
            seed=plan.seed,
        )
    except DataError as error:  # two are one training
        raise DataError(f"{error} and go on with --resume: what was read of the others is kept") from error
    layers = families.layer_scores(
        stack,
        design,
        level=level,
        output=place,
        halves=(_Layers([each[0] for each in halves]), _Layers([each[1] for each in halves])) if by_views else None,
        seed=plan.seed,
    )
    return FamilyScores(
        seen.membership,
        place,
        design,
        images,
        layers,
        _peaks([each.peaks for each in readings.values()], seen, design, plan),
        families.attack(stack, design, output=place),
        _significance(images, layers, design, n_nan),
    )


def _without_nan(membership: Membership, stack: Sequence[Tensor]) -> Membership:
    """The membership, unknown for images that have a NaN in a layer of an encoder whose membership is known."""
    known = torch.from_numpy(membership != -1)
    wrong = torch.zeros(len(membership), dtype=torch.bool)
    for layer in stack:
        wrong |= (~layer.isfinite() & known).any(1)
    return np.where(wrong.numpy()[:, None], np.int8(-1), membership)


def _numbered(pictures: Sequence[str | None] | None, count: int) -> Ints | None:
    """Numbers the pictures, `[N]`; an image without one is its own."""
    if pictures is None:
        return None
    numbers: dict[object, int] = {}
    keys = [row if name is None else name for row, name in enumerate(pictures)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


# ---- units ----------------------------------------------------------------------------------------------------------


def _peaks(states: Sequence[Mapping[str, Tensor]], seen: Seen, design: families.Design, plan: Plan) -> Peaks | None:
    balanced = design.kind == "varying" or bool(design.group("independent").any())
    if not balanced or not all(states):
        return None
    placed = [_placed(each, seen.index) for each in states]
    among = families.balanced_images(design)
    found, sides = [], (np.zeros(0), np.zeros(0))
    start = [0] * len(placed)
    for row, layer in enumerate(plan.layers):
        stop = [first + each.units[row] for first, each in zip(start, plan.encoders, strict=True)]
        own = [_part(state, slice(*ends)) for state, *ends in zip(placed, start, stop, strict=True)]
        counts = families.peak_counts_of_states(own, len(seen.index))
        found.append(families.member_peaks(counts, design, strata=seen.labels, seed=plan.seed))
        if layer.name == plan.output:
            sides = families.peaks_of_images(counts, design.membership)
        start = stop
    inside, outside = (np.where(among, side, np.nan) for side in sides)
    return Peaks(tuple(found), inside, outside)


def _part(state: Mapping[str, Tensor], units: slice) -> dict[str, Tensor]:
    """The state of some of the units."""
    return {name: value[units] if value.ndim else value for name, value in state.items()}


def _placed(state: Mapping[str, Tensor], index: Ints) -> dict[str, Tensor]:
    """The state of peaks with places of images among all N where it has their positions in the data set."""
    order = np.argsort(index)
    places = order[np.searchsorted(index, state["index"].numpy(), sorter=order)]
    return {**state, "index": torch.from_numpy(places)}


# ---- what may be said -----------------------------------------------------------------------------------------------


def _significance(
    images: families.ImageScores, layers: families.LayerScores, design: families.Design, n_nan: int
) -> Significance:
    said = families.verdict(images, design)
    check = {"fixed": "conformal", "varying": "permutation"}[design.kind]
    reasons = dict.fromkeys(each for each in (images.reason, said.reason) if each)
    return Significance(
        design=design.kind,
        control=design.control_name,
        n_scored=said.n_scored,
        n_control=int(design.control.sum()),
        method="none" if said.n_memorized is None else images.method,
        check="none" if said.n_check is None else check,
        reason="; ".join(reasons),
        fdr=images.fdr,
        levels_removed=images.levels_removed,
        n_memorized=said.n_memorized,
        n_check=said.n_check,
        verdict=said.sentence,
        reliability=finite(float(images.reliability[images.output])),
        encoders_for_08=finite(float(images.encoders_for_08[images.output])),
        unscored_nan=n_nan,
        findings=tuple(each.sentence for each in families.findings(images, layers, design)),
    )


def finite(value: float) -> float | None:
    """A number that does not exist is null in files."""
    return value if math.isfinite(value) else None
