"""Scores of single images over trainings: how large, how sure, and which images are memorized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.families.cells import Cells, Flags, Floats, ratio_score
from memkern.families.design import Design
from memkern.families.layer_reader import Alignment, Layer, as_stack, output_of, read_layer
from memkern.families.levels import LevelModel, Levels, fit_levels, level_model
from memkern.families.moderated import moderated
from memkern.families.p_values import benjamini_hochberg, conformal_p, membership_permutation_p
from memkern.families.refused import refuse_duplicates
from memkern.families.views import se_of_views

Level: TypeAlias = Literal["auto", "none"]
Method: TypeAlias = Literal["moderated t", "conformal", "none"]


@dataclass(frozen=True)
class ImageScores:
    """Scores of images, a row a layer; NaN where a number does not exist.

    Attributes:
        a_in: `[L, N]`, mean alignment over the encoders that saw the image (a fixed split: over the f's).
        a_out: `[L, N]`, over those that did not (over the g's).
        sslmem: `[L, N]`, `a_out - a_in`.
        ratio: `[L, N]`, `(a_out - a_in) / (a_out + a_in)`; NaN where the sum is negative.
        se: `[L, N]`, standard error of `sslmem` over trainings, given the views; scored images alone.
        se_ratio: `[L, N]`, of `ratio`.
        se_views: `[N]`, standard error of `sslmem` at the output over views, given the encoders.
        p: `[L, N]`, one-sided, that membership lowers the alignment; scored images alone.
        p_check: `[N]`, p at the output by another method that assumes less.
        q: `[L, N]`, false-discovery rate at which the image would be called, within its layer.
        memorized: `[N]`, `q <= fdr` at the output.
        method: How `p` was found: "moderated t", "conformal", or "none".
        reason: Why there is no p or no standard error; "" if there are both.
        levels: `[L, K]`, what each training shifts all of its alignments by; NaN where a constant in it is unknown.
        levels_removed: Whether `a_in`, `a_out` and what follows are after levels.
        sd_levels: `[L]`, standard deviation of the levels.
        reliability: `[L]`, share of the variance of `sslmem` over scored images that another set of trainings would
            show again.
        encoders_for_08: `[L]`, how many encoders a reliability of 0.8 takes.
        fdr: The false-discovery rate of `memorized`.
        output: The place of the output layer.
    """

    a_in: Floats
    a_out: Floats
    sslmem: Floats
    ratio: Floats
    se: Floats
    se_ratio: Floats
    se_views: Floats
    p: Floats
    p_check: Floats
    q: Floats
    memorized: Flags
    method: Method
    reason: str
    levels: Floats
    levels_removed: bool
    sd_levels: Floats
    reliability: Floats
    encoders_for_08: Floats
    fdr: float
    output: int


@dataclass(frozen=True)
class _Plan:
    """Decisions of the design for every layer: how p is found, and on which cells."""

    design: Design
    method: Method
    reason: str
    fitted: Cells
    shown: Cells
    model: LevelModel
    removes_levels: bool
    able: Flags  # [N], scored images with a standard error


def image_scores(
    alignment: Alignment,
    design: Design,
    *,
    level: Level = "auto",
    output: int = -1,
    rows: Sequence[Layer] | None = None,
    fdr: float = 0.05,
    seed: int = 0,
) -> ImageScores:
    """Scores images over trainings, with a standard error, a p-value and a q-value where the design allows them.

    Args:
        alignment: `[N, K]` of one layer, or `[L, N, K]`, read layer by layer: the alignment of each image in each
            encoder. What stands at unknown entries is not read.
        design: Who saw which image.
        level: "auto" removes the levels of the trainings where the design tells them; "none" leaves them in.
        output: Which layer is the encoder's output; the last by default.
        rows: At the output, per encoder `[N, V]`: the sum of the distances of each view to the others. They give
            `se_views`; without them `se_views` is NaN.
        fdr: False-discovery rate of `memorized`.
        seed: Seed of the draws of `p_check`.

    Returns:
        The scores of every image in every layer.

    Raises:
        ArgumentTypeError: If alignments are not floating-point numbers.
        ArgumentValueError: If a shape does not fit, or an option has a value that there is not.
        DataError: If two encoders are one training.
        NanError: If a known alignment is not finite.

    Example:
        >>> import numpy as np
        >>> from memkern import families
        >>> rng = np.random.default_rng(0)
        >>> membership = rng.permuted(np.tile([1, 1, 0, 0], (200, 1)), axis=1)
        >>> alignment = 0.4 + 0.01 * rng.normal(size=(200, 4))
        >>> alignment[:20] -= 0.1 * membership[:20]  # 20 images are memorized by the encoders that saw them
        >>> scores = families.image_scores(alignment, families.design(membership))
        >>> scores.method, int(scores.memorized[:20].sum())
        ('moderated t', 20)
    """
    if level not in ("auto", "none"):
        raise ArgumentValueError(f'Expected `level` to be "auto" or "none", got {level!r}')
    if not 0 < fdr < 1:
        raise ArgumentValueError(f"Expected `fdr` to lie between 0 and 1, got {fdr}")
    stack = as_stack(alignment)
    last = output_of(stack, output)
    refuse_duplicates(read_layer(stack, last, design), design)
    plan = _plan(design, level)
    views = np.full(len(design.membership), np.nan) if rows is None else se_of_views(rows, plan.shown)
    views[~design.scored] = np.nan
    found = [_layer(read_layer(stack, number, design), plan) for number in range(len(stack))]
    at_output = read_layer(stack, last, design)
    check = _p_check(at_output, found[last], plan, seed)
    reliable = np.array(
        [_reliability(each, plan, views if number == last else None) for number, each in enumerate(found)]
    )
    count = design.n_encoders
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(reliable <= 0, np.inf, count * 0.8 * (1 - reliable) / (0.2 * reliable))
    q = np.stack([benjamini_hochberg(each.p) for each in found])
    columns = {
        name: np.stack([getattr(each, name) for each in found])
        for name in ("a_in", "a_out", "sslmem", "ratio", "se", "se_ratio", "p", "levels")
    }
    return ImageScores(
        **columns,
        se_views=views,
        p_check=check,
        q=q,
        memorized=np.nan_to_num(q[last], nan=np.inf) <= fdr,
        method=plan.method,
        reason=plan.reason,
        levels_removed=plan.removes_levels,
        sd_levels=columns["levels"].std(1, ddof=1),
        reliability=reliable,
        encoders_for_08=needed,
        fdr=fdr,
        output=last,
    )


def _plan(design: Design, level: Level) -> _Plan:
    fitted, shown = Cells.of(design.fitted()), Cells.of(design.by_role())
    model = level_model(fitted)
    degrees = fitted.degrees >= 2
    able = design.scored & degrees & (model.identified if level == "auto" else True)
    why_not = ""
    if not (design.scored & degrees).any():
        why_not = "no standard error: trainings in and out of an image need 2 degrees of freedom (2 + 2 or 1 + 3)"
    elif not able.any():
        why_not = "the levels of the trainings do not cancel from the differences"
    if design.kind == "varying":
        method: Method = "moderated t" if able.any() else "none"
        return _Plan(design, method, why_not, fitted, shown, model, level == "auto", able)
    if not design.has_control:
        reason = "no control group: a difference between f and g may be the level of the trainings"
        return _Plan(design, "none", reason, fitted, shown, model, False, able)
    removed = level == "auto" and bool(able.any())
    return _Plan(design, "moderated t" if removed else "conformal", why_not, fitted, shown, model, removed, able)


@dataclass(frozen=True)
class _LayerOfImages:
    a_in: Floats
    a_out: Floats
    sslmem: Floats
    ratio: Floats
    se: Floats
    se_ratio: Floats
    p: Floats
    levels: Floats


def _layer(alignment: Floats, plan: _Plan) -> _LayerOfImages:
    """Scores of one layer; `alignment` `[N, K]` is read only."""
    count = plan.design.n_encoders
    fit = fit_levels(alignment, plan.fitted, plan.model, plan.design.pictures)
    one_component = len(np.unique(plan.model.components)) == 1
    levels = fit.values if one_component else np.full(count, np.nan)
    if plan.removes_levels:
        alignment = alignment - fit.values
    else:
        fit = Levels(np.zeros(count), np.zeros((count, count)))
    inside, outside = plan.shown.means(alignment)
    sslmem, ratio = outside - inside, ratio_score(inside, outside)
    se, se_ratio, df = (np.full(len(alignment), np.nan) for _ in range(3))
    variances = _variances(alignment, plan)
    able = plan.able
    if able.any() and float(np.median(variances[able])) > 0:  # else a collapsed layer
        cells = plan.shown.rows(able)
        spread = moderated(variances[able], plan.fitted.degrees[able])
        in_in, in_out, out_out = _covariances_of_means(cells, fit.covariance)
        var_in, var_out = spread.variances / cells.n_in, spread.variances / cells.n_out
        se[able] = np.sqrt(var_in + var_out + out_out - 2 * in_out + in_in)
        df[able] = spread.degrees
        a, b = inside[able], outside[able]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_parts = a**2 * (var_out + out_out) - 2 * a * b * in_out + b**2 * (var_in + in_in)
            se_ratio[able] = np.where(a + b > 0, np.sqrt(4 * mean_parts / (a + b) ** 4), np.nan)
    p = np.full(len(alignment), np.nan)
    if plan.method == "moderated t":
        p[able] = require("scipy.stats", "scipy").t.sf(sslmem[able] / se[able], df[able])
    elif plan.method == "conformal":
        p[plan.design.scored] = conformal_p(sslmem[plan.design.scored], sslmem[plan.design.control])
    return _LayerOfImages(inside, outside, sslmem, ratio, se, se_ratio, p, levels)


def _variances(alignment: Floats, plan: _Plan) -> Floats:
    """Variance of one training within the cells of each image, `[N]`; what levels took is given back."""
    degrees = plan.fitted.degrees
    total = float(degrees.sum())
    lost = total / max(total - plan.model.n_free, 1) if plan.removes_levels else 1.0
    residuals = plan.fitted.residuals(alignment)
    squares: Floats = np.einsum("nk,nk->n", residuals, residuals)
    return lost * squares / np.maximum(degrees, 1)


def _covariances_of_means(cells: Cells, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Parts that uncertain levels add: to the variance of the mean in, the covariance of both, that of the mean out."""
    from_in, from_out = cells.inside @ covariance, cells.outside @ covariance
    in_in = np.einsum("nk,nk->n", from_in, cells.inside) / cells.n_in**2
    in_out = np.einsum("nk,nk->n", from_in, cells.outside) / (cells.n_in * cells.n_out)
    out_out = np.einsum("nk,nk->n", from_out, cells.outside) / cells.n_out**2
    return in_in, in_out, out_out


def _p_check(alignment: Floats, found: _LayerOfImages, plan: _Plan, seed: int) -> Floats:
    """The p at the output by permutation (varying design) or against the controls (fixed split), where p is a t's."""
    check, design = np.full(len(alignment), np.nan), plan.design
    if plan.method != "moderated t":
        return check
    if design.kind == "fixed":
        check[design.scored] = conformal_p(found.sslmem[design.scored], found.sslmem[design.control])
        return check
    after = alignment
    if plan.removes_levels:
        after = alignment - fit_levels(alignment, plan.fitted, plan.model, design.pictures).values
    able = plan.able
    check[able] = membership_permutation_p(after[able], design.membership[able], seed=seed)
    return check


def _reliability(found: _LayerOfImages, plan: _Plan, views: Floats | None) -> float:
    """Share of the variance between scored images that is not noise, in [0, 1]; NaN where noise is not known."""
    scored, control = plan.design.scored, plan.design.control
    scores = found.sslmem[scored]
    if scores.size < 2:
        return math.nan
    total = float(np.nanvar(scores, ddof=1))
    squares = found.se[scored] ** 2
    if np.isfinite(squares).any():
        extra = views[scored] ** 2 if views is not None and np.isfinite(views[scored]).any() else 0.0
        noise = float(np.nanmean(squares + extra))
    elif control.any():
        noise = float(np.var(found.sslmem[control], ddof=1))
    else:
        return math.nan
    return float(np.clip(1 - noise / total, 0, 1)) if total > 0 else math.nan
