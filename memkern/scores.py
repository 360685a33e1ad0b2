"""Scores from kernel outputs: formulas only, in plain torch, on any device, without a host sync."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from memkern.errors import ArgumentTypeError


def selectivity_score(peak: Tensor, rest: Tensor) -> Tensor:
    r"""Computes how much the largest mean stands out of the others: ``(peak - rest) / (peak + rest)``.

    .. math:: \mathrm{UnitMem}(u) = \frac{\mu_{max,u} - \mu_{-max,u}}{\mu_{max,u} + \mu_{-max,u}}

    arXiv 2409.19069, Eq. (8). In [0, 1] for non-negative activations; signed ones can leave it, and are kept as they
    come. A dead unit (both zero) scores 0, as in the paper's Table 13; any other zero denominator is undefined: NaN.

    Args:
        peak: ``[U]``, the largest per-point mean.
        rest: ``[U]``, the centre (mean or median) of the others.

    Returns:
        ``[U]``, of the dtype of ``peak``.
    """
    peak, rest = peak.double(), rest.double()
    difference = peak - rest
    score = (difference / (peak + rest)).masked_fill_(difference == 0, 0.0)
    return score.nan_to_num_(nan=torch.nan, posinf=torch.nan, neginf=torch.nan)  # infinite: a difference over zero


def sslmem_score(alignment_f: Tensor, alignment_g: Tensor, scale: str = "none") -> Tensor:
    r"""Computes the memorization of each point from its two alignments.

    Args:
        alignment_f: ``[N]``, with the encoder f that was trained with the points.
        alignment_g: ``[N]``, with the encoder g that was not.
        scale: "none": ``A_g - A_f`` (arXiv 2409.19069, Eq. 1). "ratio": ``(A_g - A_f) / (A_g + A_f)`` (Eq. 2), 0 where
            both are 0. "range": ``(A_g - A_f) / (max - min)`` over the given points, as the released scripts do: it
            divides and does not shift, depends on the other points, and leaves [-1, 1] when all have one sign. With
            max = min it is 0 if every difference is 0, else NaN.

    Returns:
        ``[N]``; positive where f aligns the views better than g does. Negative values are kept.
    """
    memorized = alignment_g - alignment_f
    if scale == "ratio":
        total = alignment_g + alignment_f
        return torch.where(total == 0, 0.0, memorized / total)
    if scale == "range" and memorized.numel() > 0:
        spread = memorized.max() - memorized.min()
        flat = torch.where(memorized == 0, 0.0, torch.nan)
        return torch.where(spread == 0, flat, memorized / spread)
    return memorized


def removal_score(alignment_f: Tensor, alignment_g: Tensor) -> Tensor:
    """Ranks points to remove as the released scripts do.

    Both alignments are divided by their own maxima, and their difference by its maximum.

    Args:
        alignment_f: ``[N]``.
        alignment_g: ``[N]``.

    Returns:
        ``[N]``; sort it descending. Its order can differ from that of ``sslmem_score``.
    """
    difference = alignment_g / alignment_g.max() - alignment_f / alignment_f.max()
    return difference / difference.max()


def delta_layermem(values: Mapping[str, float] | Iterable[float] | Tensor) -> list[float]:
    r"""Computes what each layer adds to the one before it: ``LayerMem(l) - LayerMem(l - 1)``.

    arXiv 2409.19069, Eq. (4). "Before" is the previous entry of the list, so the result depends on which layers (taps)
    are listed: give them in the order of the network.

    Args:
        values: LayerMem of the taps in order; a mapping from names keeps its order.

    Returns:
        One float per tap; the first is NaN, for it has no predecessor.

    Raises:
        TypeError: If ``values`` holds something that is no number.

    Example:
        >>> import memkern
        >>> [round(delta, 3) for delta in memkern.delta_layermem([0.091, 0.123, 0.154])]
        [nan, 0.032, 0.031]
    """
    listed = list(values.values() if isinstance(values, Mapping) else values)
    try:
        numbers = [float(value) for value in listed]
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"Expected `values` to hold one number per tap, got {listed!r}") from error
    return [math.nan if place == 0 else number - numbers[place - 1] for place, number in enumerate(numbers)]


def mean_of_others(rest: Tensor, count: int | Tensor) -> Tensor:
    """Computes the mean over all the points (or classes) but the one that holds the peak.

    arXiv 2409.19069, Eqs. (7) and (15).

    Args:
        rest: ``[U]`` float64, the sum of the means of all the others.
        count: How many points (or classes) there are, the one with the peak included; an int or a 0-d tensor.

    Returns:
        ``[U]`` float64.
    """
    return rest / (count - 1)


def dead_units(peak: Tensor, minimum: Tensor) -> Tensor:
    """Finds units whose mean activation is 0 for every point (or class).

    Args:
        peak: ``[U]``, the largest mean.
        minimum: ``[U]``, the smallest mean.

    Returns:
        ``[U]`` bool.
    """
    return (peak == 0) & (minimum == 0)


def signed_units(minimum: Tensor) -> Tensor:
    """Finds units whose mean activation is negative for some point (or class): their score can leave [0, 1].

    Args:
        minimum: ``[U]``, the smallest mean.

    Returns:
        ``[U]`` bool.
    """
    return minimum < 0


def undefined(score: Tensor) -> Tensor:
    """Finds scores that are NaN: of a NaN activation, or of a zero denominator with signed activations.

    Args:
        score: ``[U]``; numpy arrays work alike.

    Returns:
        ``[U]`` bool, of the same kind.
    """
    return score != score


def merge_peaks(peak_a: Tensor, index_a: Tensor, peak_b: Tensor, index_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merges the peaks of two disjoint sets of points, exactly and in any order.

    The larger peak wins; on ties the lower dataset id; NaN before any number, the lower id of two.

    Args:
        peak_a: ``[U]``.
        index_a: ``[U]`` int64.
        peak_b: ``[U]``.
        index_b: ``[U]`` int64.

    Returns:
        The peak, its index, and the smaller peak, which joins the rest.
    """
    nan_a, nan_b = peak_a.isnan(), peak_b.isnan()
    tied = (peak_a == peak_b) | (nan_a & nan_b)
    take_b = torch.where(tied, index_b < index_a, ~nan_a & ((peak_b > peak_a) | nan_b))
    return (
        torch.where(take_b, peak_b, peak_a),
        torch.where(take_b, index_b, index_a),
        torch.where(take_b, peak_a, peak_b),
    )


UnitNumbers = tuple[Tensor, Tensor, Tensor, Tensor]
"""Four rows of ``[U]`` that are known of units after some points: peak, index, rest (float64), minimum."""


def merge_units(a: UnitNumbers, b: UnitNumbers) -> UnitNumbers:
    """Merges what is known of the same units after two disjoint sets of points.

    Peaks, indices and smallest means come out the same bits in any order of merging; the sums of the others agree to
    the rounding of float64.

    Args:
        a: ``(peak, index, rest, minimum)``, each ``[U]``; ``rest`` is the float64 sum of all the means but the peak.
        b: The same of the other points.

    Returns:
        ``(peak, index, rest, minimum)`` over the points of both.
    """
    peak, index, smaller = merge_peaks(a[0], a[1], b[0], b[1])
    return peak, index, a[2] + b[2] + smaller.double(), torch.minimum(a[3], b[3])  # NaN wins
