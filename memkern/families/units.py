"""Units over trainings: whose images they answer to most, members' or others'.

Units are not aligned between encoders: unit 7 of one training has nothing to do with unit 7 of another. What can be
compared is which images the peaks of an encoder's units fall on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from memkern.errors import ArgumentValueError, DataError
from memkern.families.cells import IN, UNKNOWN, Cells, Flags, Floats, Ints, Membership
from memkern.families.design import Design
from memkern.families.exchange import exchange_of_group
from memkern.families.p_values import ENTRIES_A_CHUNK, group_test
from memkern.scores import mean_of_others

Values: TypeAlias = NDArray[np.generic] | torch.Tensor

PEAK_ENTRIES = ("peak", "index", "rest", "count", "tied")

SIGNED = 1e-3
"""A unit is signed if |peak + rest| is below this share of |peak| + |rest|: selectivity divides by almost nothing."""


@dataclass(frozen=True)
class UnitMeans:
    """UnitMem or ClassMem of a layer over encoders.

    Attributes:
        mean: Mean over encoders of each encoder's mean over its units.
        se: Its standard error over encoders; NaN with one.
        encoders: `[K]`, the mean of each encoder.
    """

    mean: float
    se: float
    encoders: Floats


@dataclass(frozen=True)
class MemberPeaks:
    """Share of units of one layer that answer most to an image that their encoder saw.

    Attributes:
        share: Share of the live units whose peak image is a member; NaN without a live unit.
        expected: What it would be if membership meant nothing.
        p: One-sided permutation p of the share.
        n_units: How many units count.
    """

    share: float
    expected: float
    p: float
    n_units: int


def signed_units(peak: Values, rest: Values) -> Flags:
    """Units whose selectivity divides by almost nothing, `[U]`: the peak and the mean of the others nearly cancel.

    Args:
        peak: `[U]`, the largest mean.
        rest: `[U]`, the mean of the others.

    Returns:
        `[U]` bool.
    """
    top, others = _floats(peak), _floats(rest)
    signed: Flags = np.abs(top + others) < SIGNED * (np.abs(top) + np.abs(others))
    return signed


def unit_means(scores: Sequence[Values]) -> UnitMeans:
    """Mean of UnitMem (or ClassMem) over encoders, with encoders as what was drawn.

    Args:
        scores: Per encoder `[U]`; leave signed layers out.

    Returns:
        The mean over encoders, its standard error, and the mean of each encoder.

    Raises:
        ArgumentValueError: If there is no encoder.

    Example:
        >>> import numpy as np
        >>> round(unit_means([np.array([0.5, 0.7]), np.array([0.7, 0.9])]).se, 3)
        0.1
    """
    means = np.array([float(_floats(each).mean()) for each in scores])
    if len(means) == 0:
        raise ArgumentValueError("Expected the scores of at least one encoder, got none")
    se = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return UnitMeans(float(means.mean()), se, means)


def balanced_images(design: Design) -> Flags:
    """The images among which the peaks of units are looked for, `[N]`.

    Candidates and independents of a fixed split; in a varying design the images without an unknown entry.

    Args:
        design: Who saw which image.

    Returns:
        `[N]` bool.

    Raises:
        DataError: If a fixed split has no independents: then no image is out of f and in g.
    """
    if design.kind == "varying":
        known: Flags = (design.membership != UNKNOWN).all(1)
        return known
    candidates, independents = design.group("candidate"), design.group("independent")
    if not independents.any():
        raise DataError('Member peaks of a fixed split need images of the group "independent": add some, or leave it')
    return candidates | independents


def peak_counts(means: Sequence[Values], images: Flags) -> Ints:
    """Counts the live units of each encoder that answer most to each image: `[N, K]`.

    A unit is live if its peak among the images is above 0, is not tied, and does not nearly cancel with the mean of the
    others. Tied units go to nobody: else the order of the data would decide.

    Args:
        means: Per encoder `[N, U]`, the mean activation of each unit for each image.
        images: `[N]`, the images among which the peak is taken; see `balanced_images`.

    Returns:
        `[N, K]` counts; 0 at images that are not among `images`.

    Raises:
        ArgumentValueError: If there are fewer than 2 such images, or a shape does not fit.
    """
    counts = np.zeros((len(images), len(means)), dtype=np.int64)
    places = np.flatnonzero(images)
    if len(places) < 2:
        raise ArgumentValueError(f"Expected at least 2 images to look for peaks among, got {len(places)}")
    for k, each in enumerate(means):
        values = _floats(each)
        if values.ndim != 2 or len(values) != len(images):
            shape = list(values.shape)
            raise ArgumentValueError(f"Expected `means[{k}]` to have shape [{len(images)}, U] [N, U], got {shape}")
        values = values[places]
        index, peak = values.argmax(0), values.max(0)
        rest = (values.sum(0) - peak) / (len(places) - 1)
        live = _live(peak, rest, (values == peak).sum(0) > 1)
        counts[:, k] = np.bincount(places[index[live]], minlength=len(images))
    return counts


def peak_counts_of_states(states: Sequence[Mapping[str, Values]], n_images: int, *, units: slice = slice(None)) -> Ints:
    """Counts as `peak_counts` does, from what a pass over the balanced images keeps of each unit: `[N, K]`.

    Args:
        states: Per encoder, over the balanced images alone: "peak" `[U]`, the largest mean activation; "index" `[U]`
            int64, the place of that image among all N; "rest" `[U]`, the sum over the other images; "count", the number
            of images; "tied" `[U]` bool, whether another image has the same peak.
        n_images: N.
        units: Which units count, such as those of one layer where the units of all layers lie side by side.

    Returns:
        `[N, K]` counts; 0 at images that are not balanced.

    Raises:
        ArgumentValueError: If a state lacks an entry, its entries differ in shape, it has fewer than 2 images, or an
            index lies outside of the N images.

    Example:
        >>> state = {"peak": [2.0, 5.0], "index": [3, 1], "rest": [1.0, 4.0], "count": 4, "tied": [False, True]}
        >>> peak_counts_of_states([{name: np.array(each) for name, each in state.items()}], 5)[:, 0].tolist()
        [0, 0, 0, 1, 0]
    """
    counts = np.zeros((n_images, len(states)), dtype=np.int64)
    for k, state in enumerate(states):
        missing = [name for name in PEAK_ENTRIES if name not in state]
        if missing:
            raise ArgumentValueError(
                f"Expected `states[{k}]` to hold {', '.join(PEAK_ENTRIES)}, {missing[0]} is missing"
            )
        count, index = int(_array(state["count"])), _array(state["index"])[units].astype(np.int64)
        peak, rest = _floats(state["peak"])[units], _floats(state["rest"])[units]
        tied = _array(state["tied"])[units].astype(np.bool_)
        if not peak.shape == rest.shape == index.shape == tied.shape:
            shapes = [list(each.shape) for each in (peak, index, rest, tied)]
            raise ArgumentValueError(
                f"Expected peak, index, rest and tied of `states[{k}]` of one shape [U], got {shapes}"
            )
        if count < 2:
            raise ArgumentValueError(f"Expected `states[{k}]` to be over at least 2 images, got {count}")
        live = _live(peak, mean_of_others(torch.from_numpy(rest), count).numpy(), tied)
        chosen = index[live]
        if ((chosen < 0) | (chosen >= n_images)).any():
            wrong = int(chosen[(chosen < 0) | (chosen >= n_images)][0])
            raise ArgumentValueError(f"Expected an index of `states[{k}]` below {n_images} images, got {wrong}")
        counts[:, k] = np.bincount(chosen, minlength=n_images)
    return counts


def _live(peak: Floats, rest: Floats, tied: Flags) -> Flags:
    return (peak > 0) & ~tied & ~signed_units(peak, rest)


def member_peaks(
    counts: Ints, design: Design, *, strata: NDArray[np.generic] | None = None, draws: int = 9999, seed: int = 0
) -> MemberPeaks:
    """Tests whether units answer most to images that their encoder saw.

    Images are permuted, never units: units peak together, and counting them as independent would call far too much. In
    a fixed split candidates and independents are exchanged in all encoders at once, within the design's pictures or
    within strata, or pictures as a whole (see `exchange_of_group`). In a varying design the membership of each image is
    drawn anew over the encoders; that of each picture, if images of one picture have one membership.

    Args:
        counts: `[N, K]` of `peak_counts`.
        design: Who saw which image; counts at other images than the balanced ones are not read.
        strata: `[N]`, whatever names the class or folder that groups were drawn within; for a fixed split.
        draws: How many permutations are drawn.
        seed: Seed of the draws.

    Returns:
        The share of units whose peak image is a member, what chance would give, and its p-value.

    Raises:
        ArgumentValueError: If `counts` has not the shape of the membership.
        DataError: If a fixed split has no independents.
    """
    if counts.shape != design.membership.shape:
        shape = list(design.membership.shape)
        raise ArgumentValueError(f"Expected `counts` to have shape {shape} [N, K], got {list(counts.shape)}")
    images = balanced_images(design)
    own, seen = counts[images], design.membership[images]
    total = int(own.sum())
    if total == 0:
        return MemberPeaks(float("nan"), float("nan"), float("nan"), 0)
    share = float((own * (seen == IN)).sum()) / total
    if design.role is not None:
        signs = np.where(design.role, 1, -1)  # an exchanged image gives its peaks in f for those in g
        candidates = (seen == design.role).all(1)
        labels = None if strata is None else strata[images]
        how = exchange_of_group(candidates, pictures=design.pictures[images], labels=labels)
        test = group_test(own @ signs, candidates, strata=how.strata, pictures=how.pictures, draws=draws, seed=seed)
        always = float(own[:, ~design.role].sum())
        return MemberPeaks(share, (always + test.expected) / total, test.p, total)
    own, seen = _by_picture(own, seen, design.pictures[images])
    expected = float((own.sum(1) * (seen == IN).mean(1)).sum()) / total
    null = _redrawn(own, seen, draws, np.random.default_rng(seed))
    hits = int((null >= share * total - 1e-9 * total).sum())
    return MemberPeaks(share, expected, (1 + hits) / (draws + 1), total)


def peaks_of_images(counts: Ints, membership: Membership) -> tuple[Floats, Floats]:
    """Share of an encoder's live units that peak at each image: mean over encoders in and over encoders out.

    Args:
        counts: `[N, K]` of `peak_counts`.
        membership: `[N, K]`; unknown entries enter nothing.

    Returns:
        `peaks_in` and `peaks_out`, `[N]` each; NaN without an encoder on that side. Encoders without a live unit are
        left out.
    """
    live = counts.sum(0)
    seen = np.where(live > 0, membership, UNKNOWN).astype(np.int8)
    return Cells.of(seen).means(counts / np.maximum(live, 1))


def _by_picture(counts: Ints, membership: Membership, pictures: Ints) -> tuple[Ints, Membership]:
    """Counts and membership of pictures, if images of one picture have one membership; else of images as they are."""
    first, number = np.unique(pictures, return_index=True, return_inverse=True)[1:]
    if (membership != membership[first][number]).any():
        return counts, membership
    total = np.zeros((len(first), counts.shape[1]), dtype=np.int64)
    np.add.at(total, number, counts)
    return total, membership[first]


def _redrawn(counts: Ints, membership: Membership, draws: int, rng: np.random.Generator) -> Floats:
    """Member peaks when each image's row of the membership is permuted over the encoders, `[draws]`.

    Only encoders that peak at an image matter. One after another they are in with probability (left in) / (left), which
    is a permutation. Images at which one encoder peaks are counted by kind: their sum is binomial.
    """
    encoders = membership.shape[1]
    n_in, nonzero = (membership == IN).sum(1), (counts > 0).sum(1)
    null = np.zeros(draws)
    single = nonzero == 1
    kinds, times = np.unique(np.stack([counts[single].sum(1), n_in[single]], 1), axis=0, return_counts=True)
    for (count, inside), number in zip(kinds, times, strict=True):
        null += count * rng.binomial(number, inside / encoders, draws)
    several = np.flatnonzero(nonzero > 1)
    step = max(1, ENTRIES_A_CHUNK // draws)
    for start in range(0, len(several), step):
        rows = several[start : start + step]
        ordered = -np.sort(-counts[rows], axis=1)  # which encoder a count belongs to does not matter to a permutation
        left = np.repeat(n_in[rows][:, None], draws, 1)
        for place in range(int(nonzero[rows].max())):
            drawn = rng.random(left.shape) * (encoders - place) < left
            null += ordered[:, place] @ drawn
            left -= drawn
    return null


def _array(values: Values) -> NDArray[np.generic]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _floats(values: Values) -> Floats:
    return _array(values).astype(np.float64)
