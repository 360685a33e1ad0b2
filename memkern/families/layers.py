"""LayerMem over trainings: means over images with errors that count both images and trainings as drawn."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.families.cells import Cells, Flags, Floats, ratio_score, sums_by_picture
from memkern.families.crossfit import halves_of_encoders, halves_of_views, measured
from memkern.families.design import Design
from memkern.families.images import Level
from memkern.families.layer_reader import Alignment, as_stack, output_of, read_layer
from memkern.families.levels import LevelModel, inverses_without_one, level_model, levels_without_one
from memkern.families.refused import refuse_duplicates
from memkern.families.two_way import Parts
from memkern.scores import delta_layermem

Halves: TypeAlias = tuple[Alignment, Alignment]
"""Alignments within the even and within the odd views."""

IMAGES_A_CHUNK = 4096
_DELTAS = {"layermem": "", "excess": "_excess"}


@dataclass(frozen=True)
class LayerScores:
    """LayerMem of every layer `[L]`; NaN where a number does not exist.

    Attributes:
        layermem: Mean ratio score over scored images (arXiv 2409.19069, Eq. 3): after levels in a varying design.
        control: The same mean over control images of a fixed split.
        excess: What memorization alone makes: `layermem - control` in a fixed split, `layermem` in a varying design.
        ranged: Mean over scored images of `(out - in) / (max - min)`, as the released scripts scale it: it depends on
            the two most extreme images, and has no error. NaN where all differences are equal, but 0 where all are 0.
        delta: What each layer adds to the one before (Eq. 4); the first has no layer before it and is NaN.
        delta_excess: The same of the excess.
        about: Which number `se`, `se_images`, `se_encoders`, `low` and `high` are about: "excess", or "layermem" in a
            fixed split without control.
        se: Standard error over images and trainings; NaN if a role has one training.
        se_images: Given the trainings; it alone says nothing about other trainings.
        se_encoders: Given the images.
        df: Degrees of freedom of the interval.
        low: Lower end of the 95 % interval.
        high: Upper end.
        se_delta: Standard error of `delta_excess`, or of `delta` where `about` is "layermem"; errors that two layers
            share cancel.
        low_delta: Lower end of its 95 % interval.
        high_delta: Upper end.
        top: Mean ratio score of the `n_top` images that rank highest at the output, ranked and measured by different
            halves of the encoders; with fewer than 4 encoders by different halves of the views.
        least: Of those that rank lowest.
        top_control: What the same selection gives among control images, where nothing is memorized.
        least_control: Likewise.
        n_top: How many images a group has.
    """

    layermem: Floats
    control: Floats
    excess: Floats
    ranged: Floats
    delta: Floats
    delta_excess: Floats
    about: Literal["excess", "layermem"]
    se: Floats
    se_images: Floats
    se_encoders: Floats
    df: Floats
    low: Floats
    high: Floats
    se_delta: Floats
    low_delta: Floats
    high_delta: Floats
    top: Floats
    least: Floats
    top_control: Floats
    least_control: Floats
    n_top: int


@dataclass(frozen=True)
class _Plan:
    """Decisions of the design for every layer."""

    design: Design
    cells: Cells
    model: LevelModel | None  # None: levels stay in
    inverses: Floats | None
    sides: tuple[tuple[Flags, int], ...]  # images and sign: the estimate is the sum of signed means


def layer_scores(
    alignment: Alignment,
    design: Design,
    *,
    level: Level = "auto",
    output: int = -1,
    halves: Halves | None = None,
    splits: int = 20,
    seed: int = 0,
) -> LayerScores:
    """LayerMem per layer, its excess over the control, errors over images and trainings, and cross-fitted groups.

    Args:
        alignment: `[N, K]` of one layer, or `[L, N, K]`, read layer by layer.
        design: Who saw which image.
        level: "auto" removes the levels of the trainings in a varying design (in a fixed split they cancel from the
            excess); "none" leaves them in.
        output: Which layer is the encoder's output, by which images are ranked; the last by default.
        halves: The alignments within the even and within the odd views, each as `alignment`; for `top` and `least`
            with fewer than 4 encoders, and then only beside a control group.
        splits: How many random halves of the encoders rank and measure.
        seed: Seed of the halves.

    Returns:
        The scores of every layer.

    Raises:
        ArgumentTypeError: If alignments are not floating-point numbers.
        ArgumentValueError: If a shape does not fit, or an option has a value that there is not.
        DataError: If two encoders are one training.
        NanError: If a known alignment is not finite.
    """
    if level not in ("auto", "none"):
        raise ArgumentValueError(f'Expected `level` to be "auto" or "none", got {level!r}')
    stack = as_stack(alignment)
    last = output_of(stack, output)
    at_output = read_layer(stack, last, design)
    refuse_duplicates(at_output, design)
    plan = _plan(design, level)
    n_top = min(50, int(design.scored.sum()) // 2)
    crossed = _Crossed(plan, n_top, _after_levels(at_output, plan), halves, last, splits, seed)
    rows: list[dict[str, float]] = []
    before: Parts | None = None
    for number in range(len(stack)):
        values = read_layer(stack, number, design)
        after = _after_levels(values, plan)
        numbers, parts = _estimate(values, after, plan)
        error = parts.errors(design.strata)
        step = None if before is None else parts.minus(before).errors(design.strata)
        rows.append(
            numbers
            | {"se": error.both, "se_images": error.images, "se_encoders": error.encoders, "df": error.df}
            | {"se_delta": math.nan if step is None else step.both, "df_delta": math.nan if step is None else step.df}
            | dict(zip(("top", "least", "top_control", "least_control"), crossed.of_layer(number, after), strict=True))
        )
        before = parts
    found = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    about: Literal["excess", "layermem"] = "layermem" if np.isnan(found["excess"]).all() else "excess"
    deltas = {f"delta{end}": np.array(delta_layermem(found[name].tolist())) for name, end in _DELTAS.items()}
    quantile = require("scipy.stats", "scipy").t.ppf
    reach = quantile(0.975, found["df"]) * found["se"]
    reach_delta = quantile(0.975, found.pop("df_delta")) * found["se_delta"]
    step_of = deltas["delta_excess" if about == "excess" else "delta"]
    return LayerScores(
        **found,
        **deltas,
        about=about,
        low=found[about] - reach,
        high=found[about] + reach,
        low_delta=step_of - reach_delta,
        high_delta=step_of + reach_delta,
        n_top=n_top,
    )


def _plan(design: Design, level: Level) -> _Plan:
    sides: tuple[tuple[Flags, int], ...] = ((design.scored, 1),)
    if level == "auto" and not design.has_control:  # in a fixed split: within f and within g, where no mean changes
        cells = Cells.of(design.fitted())
        model = level_model(cells)
        return _Plan(design, cells, model, inverses_without_one(cells, model), sides)
    sides += ((design.control, -1),) if design.has_control else ()
    return _Plan(design, Cells.of(design.by_role()), None, None, sides)


def _after_levels(alignment: Floats, plan: _Plan) -> Floats:
    if plan.model is None:
        return alignment
    levels: Floats = plan.model.inverse @ plan.cells.residuals(alignment).sum(0)
    return alignment - levels


def _mean(values: Floats, images: Flags) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no image has the score
        return float(np.nanmean(values[images]))


def _estimate(alignment: Floats, after: Floats, plan: _Plan) -> tuple[dict[str, float], Parts]:
    """The means of one layer, and the parts of their error; `after` is the alignment after levels."""
    inside, outside = plan.cells.means(after)
    ratios = ratio_score(inside, outside)
    layermem = _mean(ratios, plan.design.scored)
    control = _mean(ratios, plan.design.control) if plan.design.has_control else math.nan
    excess = layermem if plan.design.kind == "varying" else layermem - control
    ranged = _ranged((outside - inside)[plan.design.scored])
    parts = Parts(_without_one(alignment, plan), *_between_pictures(after, inside, outside, ratios, plan))
    return {"layermem": layermem, "control": control, "excess": excess, "ranged": ranged}, parts


def _ranged(differences: Floats) -> float:
    known = differences[~np.isnan(differences)]
    if known.size == 0 or not known.any():
        return 0.0 if known.size else math.nan
    span = float(np.ptp(known))
    return float(known.mean()) / span if span > 0 else math.nan


def _without_one(alignment: Floats, plan: _Plan) -> Floats:
    """The whole estimate, levels too, without each encoder in turn, `[K]`; NaN with a lone f or g."""
    cells, count = plan.cells, plan.design.n_encoders
    if min(len(each) for each in plan.design.strata) < 2:
        return np.full(count, np.nan)
    levels = np.zeros((count, count))
    if plan.model is not None and plan.inverses is not None:
        levels = levels_without_one(alignment, cells, plan.inverses)
    total, used = np.zeros((len(plan.sides), count)), np.zeros((len(plan.sides), count))
    for start in range(0, len(alignment), IMAGES_A_CHUNK):
        some = slice(start, start + IMAGES_A_CHUNK)
        ratios = ratio_score(*_means_without_one(alignment[some], cells.rows(some), levels))
        for side, (images, _) in enumerate(plan.sides):
            own = ratios[images[some]]
            known = ~np.isnan(own)
            total[side] += np.where(known, own, 0.0).sum(0)
            used[side] += known.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        signs = np.array([sign for _, sign in plan.sides], dtype=np.float64)
        return signs @ (total / used)


def sslmem_without_one(alignment: Floats, design: Design, *, level: Level) -> tuple[float, Floats]:
    """Computes mean SSLMem over the scored images, and the whole estimate, levels too, without each encoder in turn.

    Args:
        alignment: `[N, K]`; what stands at unknown entries is not read.
        design: Who saw which image, varying.
        level: "auto" removes the levels of the trainings; "none" leaves them in.

    Returns:
        The mean, and `[K]` means without each encoder over the images that still have an encoder in and one out.
    """
    plan, values = _plan(design, level), read_layer(as_stack(alignment), 0, design)
    inside, outside = plan.cells.means(_after_levels(values, plan))
    levels = np.zeros((design.n_encoders,) * 2)
    if plan.inverses is not None:
        levels = levels_without_one(values, plan.cells, plan.inverses)
    without_in, without_out = _means_without_one(values, plan.cells, levels)
    left_out = [_mean(column, design.scored) for column in (without_out - without_in).T]
    return _mean(outside - inside, design.scored), np.array(left_out)


def _means_without_one(alignment: Floats, cells: Cells, levels: Floats) -> tuple[Floats, Floats]:
    """Means over the encoders in and out without encoder k, after levels fitted without k: `[N, K]` each."""
    found = []
    for mask, size in ((cells.inside, cells.n_in), (cells.outside, cells.n_out)):
        own = mask * alignment
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((own.sum(1, keepdims=True) - own - mask @ levels) / (size[:, None] - mask))
    return found[0], found[1]


def _between_pictures(
    after: Floats, inside: Floats, outside: Floats, ratios: Floats, plan: _Plan
) -> tuple[Floats, Floats, int]:
    """Parts of pictures given the encoders `[P]`, of (picture, encoder) cells `[P, K]`, and the number of pictures."""
    cells, pictures = plan.cells, plan.design.pictures
    weight, centred, most = np.zeros(len(after)), np.zeros(len(after)), 0
    for images, sign in plan.sides:
        use = images & ~np.isnan(ratios)
        if not use.any():
            continue
        weight[use] = sign / use.sum()
        centred[use] = sign * (ratios[use] - ratios[use].mean()) / use.sum()
        most = max(most, len(np.unique(pictures[use])))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 2 * weight / (inside + outside) ** 2
    scale = np.where((weight != 0) & (inside + outside > 0), scale, 0.0)
    effects = np.zeros_like(after)
    residuals = cells.residuals(after)
    for mask, size, factor in ((cells.outside, cells.n_out, inside), (cells.inside, cells.n_in, -outside)):
        with np.errstate(divide="ignore", invalid="ignore"):
            inflated = np.where(size > 1, scale * factor / size * np.sqrt(size / (size - 1)), 0.0)
        effects += mask * (residuals * np.nan_to_num(inflated)[:, None])
    return sums_by_picture(centred, pictures), sums_by_picture(effects, pictures), most


class _Crossed:
    """Top and least groups: chosen once at the output, measured in every layer."""

    def __init__(
        self, plan: _Plan, n_top: int, at_output: Floats, halves: Halves | None, output: int, splits: int, seed: int
    ) -> None:
        self._plan, self._halves = plan, None
        design, cells = plan.design, plan.cells
        groups = [design.scored, design.control] if design.has_control else [design.scored]
        count = design.n_encoders
        if count >= 4:
            rng = np.random.default_rng(seed)
            orders = [rng.permutation(count) for _ in range(splits)]
            self._chosen = [[halves_of_encoders(at_output, cells, each, n_top, orders)] for each in groups]
        elif halves is not None and design.has_control:
            self._halves = [as_stack(each) for each in halves]
            ranks = [read_layer(each, output, design) for each in self._halves]
            self._chosen = [[halves_of_views(rank, cells, each, n_top) for rank in ranks] for each in groups]
        else:
            self._chosen = []

    def of_layer(self, number: int, after: Floats) -> list[float]:
        """Top and least of scored images, top and least of control images."""
        cells = self._plan.cells
        if self._halves is None:
            measuring = [after]
        else:  # ranked by the even views, measured by the odd ones, and the other way round
            measuring = [read_layer(each, number, self._plan.design) for each in reversed(self._halves)]
        found: list[float] = []
        for chosen in self._chosen:
            pairs = [measured(each, values, cells) for each, values in zip(chosen, measuring, strict=False)]
            found += [float(each) for each in np.mean(pairs, 0)] if pairs else [math.nan] * 2
        return found + [math.nan] * (4 - len(found))
