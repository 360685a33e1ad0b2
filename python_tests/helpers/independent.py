"""A second opinion in numpy float64: every metric once more, written from the papers' formulas with loops.

Shares no line with memkern or its reference, so a misread formula there cannot hide here.
"""

import itertools

import numpy as np
import torch


def as64(x):
    return x.detach().double().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=np.float64)


def unit_means(x, unit_dim=1, activation="raw"):
    x = {"raw": lambda a: a, "relu": lambda a: np.maximum(a, 0.0), "abs": np.abs}[activation](as64(x))
    unit_dim %= x.ndim
    return x.mean(axis=tuple(d for d in range(1, x.ndim) if d != unit_dim))


def selectivity(means, rest="mean"):
    """Score, peak, centre of the others and position of the peak, column by column."""
    means = as64(means)
    columns = []
    for column in means.T:
        k = int(np.argmax(column))
        others = np.delete(column, k)
        centre = np.median(others) if rest == "median" else np.mean(others)
        with np.errstate(invalid="ignore", divide="ignore"):
            score = (column[k] - centre) / (column[k] + centre)
        if column[k] == 0 and centre == 0:
            score = 0.0
        elif column[k] + centre == 0:
            score = np.nan
        columns.append((score, column[k], centre, k))
    score, peak, centre, index = zip(*columns, strict=True)
    return np.array(score), np.array(peak), np.array(centre), np.array(index)


def class_means(means, labels):
    """Means of the classes that have points, and their labels."""
    means, labels = as64(means), np.asarray(labels)
    present = np.unique(labels)
    return np.stack([means[labels == c].mean(axis=0) for c in present]), present


def alignment(z, pairs="all", normalize=True):
    out = []
    for point in as64(z):
        views = [view.ravel() for view in point]
        if normalize:
            views = [view / max(np.sqrt(np.sum(view**2)), 1e-12) for view in views]
        chosen = itertools.combinations(views, 2) if pairs == "all" else ((views[0], view) for view in views[1:])
        out.append(np.mean([np.sqrt(np.sum((a - b) ** 2)) for a, b in chosen]))
    return np.array(out)


def sslmem(a_f, a_g, scale="none"):
    raw = a_g - a_f
    if scale == "ratio":
        return np.array([0.0 if f + g == 0 else (g - f) / (g + f) for f, g in zip(a_f, a_g, strict=True)])
    if scale == "range":
        spread = raw.max() - raw.min()
        return raw / spread if spread != 0 else np.where(raw == 0, 0.0, np.nan)
    return raw


def assert_close(got, want, roundings, scale=None, what=""):
    """NaN masks first, then |got - want| <= roundings x epsilon of the result's dtype x scale, element by element.

    ``roundings`` counts the rounding steps of the result's accumulating dtype that the formula can make; ``scale`` is
    the magnitude that they are relative to (default: that of the wanted value).
    """
    got_dtype = got.dtype if isinstance(got, torch.Tensor) else torch.from_numpy(np.asarray(got)).dtype
    got, want = as64(got), as64(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    assert (np.isnan(got) == np.isnan(want)).all(), f"{what}: NaN at {np.isnan(got)}, wanted at {np.isnan(want)}"
    tolerance = roundings * torch.finfo(got_dtype).eps * np.abs(want if scale is None else as64(scale))
    error = np.abs(got - want)
    wrong = ~np.isnan(want) & ~(error <= tolerance + torch.finfo(got_dtype).tiny)
    assert not wrong.any(), f"{what}: got {got[wrong]}, wanted {want[wrong]}, error {error[wrong]}"
