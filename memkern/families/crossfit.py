"""The most and the least memorized images of one half of the evidence, measured by the other half.

Ranking images and measuring them by the same numbers selects noise: most minus least would be large where nothing is
memorized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memkern.families.cells import Cells, Flags, Floats, Ints, ratio_score


@dataclass(frozen=True)
class Selection:
    """Images that one half of the evidence chose, and the encoders that measure them.

    Attributes:
        top: `[n]`, the images with the largest scores.
        least: `[n]`, those with the smallest.
        encoders: The encoders that took no part in the choice.
    """

    top: Ints
    least: Ints
    encoders: Ints


def halves_of_encoders(
    alignment: Floats, cells: Cells, chosen: Flags, n_top: int, permutations: list[Ints]
) -> list[Selection]:
    """Selections by one random half of the encoders, to be measured by the other, and the other way round.

    Args:
        alignment: `[N, K]` of the output, after levels where they are removed.
        cells: Which encoders are in and out of an image.
        chosen: `[N]`, the images to select from; those without a side in a half are left out of the selection.
        n_top: How many images a group has; half of the images if there are fewer.
        permutations: Orders of the encoders; the first half of each is one half.

    Returns:
        A selection per half, two for each order.
    """
    half = alignment.shape[1] // 2
    ranks = [part for order in permutations for part in (order[:half], order[half:])]
    measures = [part for order in permutations for part in (order[half:], order[:half])]
    member = np.zeros((alignment.shape[1], len(ranks)))  # [K, halves]
    for place, rank in enumerate(ranks):
        member[rank, place] = 1.0
    means, two_sided = [], np.ones((len(alignment), len(ranks)), dtype=np.bool_)
    for mask, size in ((cells.inside, cells.n_in), (cells.outside, cells.n_out)):
        number = mask @ member
        two_sided &= (number > 0) & (number < size[:, None])  # in the half that ranks, and in the other
        means.append((mask * alignment) @ member / np.maximum(number, 1))
    selections = []
    for place, measure in enumerate(measures):
        able = np.flatnonzero(chosen & two_sided[:, place])
        selections += _selection((means[1] - means[0])[able, place], able, n_top, measure)
    return selections


def halves_of_views(alignment: Floats, cells: Cells, chosen: Flags, n_top: int) -> list[Selection]:
    """Selection by all encoders, by the alignments `[N, K]` of half of the views."""
    able = np.flatnonzero(chosen & cells.two_sided)
    inside, outside = cells.rows(able).means(alignment[able])
    return _selection(outside - inside, able, n_top, np.arange(alignment.shape[1]))


def measured(selections: list[Selection], alignment: Floats, cells: Cells) -> tuple[float, float]:
    """Mean ratio score of the top and of the least images, averaged over selections; NaN without a selection.

    Args:
        selections: Of one of the functions above.
        alignment: `[N, K]` of the layer to measure.
        cells: Those of the selections.

    Returns:
        The mean of the top images and that of the least; NaN without a selection.
    """
    values = [
        [_mean_ratio(alignment, cells, images, each.encoders) for images in (each.top, each.least)]
        for each in selections
    ]
    if not values:
        return float("nan"), float("nan")
    top, least = np.mean(values, 0)
    return float(top), float(least)


def _selection(scores: Floats, images: Ints, n_top: int, encoders: Ints) -> list[Selection]:
    count = min(n_top, len(images) // 2)
    order = images[np.argsort(-scores, kind="stable")]
    return [Selection(order[:count], order[len(order) - count :], encoders)] if count else []


def _mean_ratio(alignment: Floats, cells: Cells, images: Ints, encoders: Ints) -> float:
    own = cells.rows(images).columns(encoders)
    ratios = ratio_score(*own.means(alignment[np.ix_(images, encoders)]))
    return float(np.nanmean(ratios)) if np.isfinite(ratios).any() else float("nan")
