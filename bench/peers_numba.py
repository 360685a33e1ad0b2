"""What a careful user writes in numba: parallel loops, fastmath."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# ---- alignment ----------------------------------------------------------------------------------------------------


@numba.njit(parallel=True, fastmath=True)
def alignment(z: Any) -> Any:
    points, views, dims = z.shape
    out = np.empty(points, np.float32)
    for n in numba.prange(points):
        total = np.float32(0)
        for i in range(views):
            for j in range(i + 1, views):
                square = np.float32(0)
                for d in range(dims):
                    difference = z[n, i, d] - z[n, j, d]
                    square += difference * difference
                total += np.sqrt(square)
        out[n] = total / np.float32(views * (views - 1) // 2)
    return out


@numba.njit(parallel=True, fastmath=True)
def unit_alignment(z: Any) -> Any:
    points, views, dims = z.shape
    out = np.empty(points, np.float32)
    for n in numba.prange(points):
        unit = np.empty((views, dims), np.float32)
        for v in range(views):
            square = np.float32(0)
            for d in range(dims):
                square += z[n, v, d] * z[n, v, d]
            scale = np.float32(1) / max(np.sqrt(square), np.float32(1e-12))
            for d in range(dims):
                unit[v, d] = z[n, v, d] * scale
        total = np.float32(0)
        for i in range(views):
            for j in range(i + 1, views):
                square = np.float32(0)
                for d in range(dims):
                    difference = unit[i, d] - unit[j, d]
                    square += difference * difference
                total += np.sqrt(square)
        out[n] = total / np.float32(views * (views - 1) // 2)
    return out


@numba.njit(parallel=True, fastmath=True)
def alignment_gradient(z: Any, grad_z: Any) -> Any:
    """Forward and a gradient written by hand: of the sum over the points, into ``grad_z``."""
    points, views, dims = z.shape
    out = np.empty(points, np.float32)
    pairs = np.float32(views * (views - 1) // 2)
    for n in numba.prange(points):
        total = np.float32(0)
        for v in range(views):
            for d in range(dims):
                grad_z[n, v, d] = 0
        for i in range(views):
            for j in range(i + 1, views):
                square = np.float32(0)
                for d in range(dims):
                    difference = z[n, i, d] - z[n, j, d]
                    square += difference * difference
                distance = np.sqrt(square)
                total += distance
                weight = np.float32(0) if distance == 0 else np.float32(1) / (distance * pairs)
                for d in range(dims):
                    step = weight * (z[n, i, d] - z[n, j, d])
                    grad_z[n, i, d] += step
                    grad_z[n, j, d] -= step
        out[n] = total / pairs
    return out


# ---- unit means and selectivity -----------------------------------------------------------------------------------


@numba.njit(parallel=True, fastmath=True)
def maps_means(x: Any) -> Any:
    """[N, V, U, S], space innermost."""
    points, views, units, space = x.shape
    out = np.zeros((points, units), np.float32)
    for n in numba.prange(points):
        for v in range(views):
            for u in range(units):
                total = np.float32(0)
                for s in range(space):
                    total += x[n, v, u, s]
                out[n, u] += total
        for u in range(units):
            out[n, u] /= np.float32(views * space)
    return out


@numba.njit(parallel=True, fastmath=True)
def rows_means(x: Any) -> Any:
    """[N, R, U], units innermost (channels-last, tokens)."""
    points, rows, units = x.shape
    out = np.empty((points, units), np.float32)
    for n in numba.prange(points):
        total = np.zeros(units, np.float32)
        for r in range(rows):
            for u in range(units):
                total[u] += x[n, r, u]
        for u in range(units):
            out[n, u] = total[u] / np.float32(rows)
    return out


@numba.njit(parallel=True, fastmath=True)
def selectivity(means: Any) -> Any:
    """[N, U] -> peak, index, sum of the others; blocks of 256 units in parallel."""
    points, units = means.shape
    peak, index, rest = np.empty(units, np.float32), np.zeros(units, np.int64), np.zeros(units, np.float64)
    for block in numba.prange((units + 255) // 256):
        first, last = block * 256, min(units, block * 256 + 256)
        for u in range(first, last):
            peak[u] = means[0, u]
        for n in range(1, points):
            for u in range(first, last):
                value = means[n, u]
                larger = value > peak[u]
                rest[u] += peak[u] if larger else value
                index[u] = n if larger else index[u]
                peak[u] = value if larger else peak[u]
    return peak, index, rest


@numba.njit(parallel=True)
def median_of_others(means: Any) -> Any:
    points, units = means.shape
    out = np.empty(units, np.float32)
    low, high = (points - 2) // 2, (points - 1) // 2
    for u in numba.prange(units):
        column = np.partition(means[:, u].copy(), high)
        upper = column[high]
        lower = upper if low == high else column[:high].max()
        out[u] = (lower + upper) / np.float32(2)
    return out


@numba.njit(parallel=True, fastmath=True)
def sums_by_class(means: Any, labels: Any, classes: int) -> Any:
    points, units = means.shape
    out = np.zeros((classes, units), np.float64)
    for block in numba.prange((units + 63) // 64):
        first, last = block * 64, min(units, block * 64 + 64)
        for n in range(points):
            for u in range(first, last):
                out[labels[n], u] += means[n, u]
    return out
