"""Norms and distances in float64, straight from the elements: for the few sums that cannot be trusted."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exact_norm(a, dims, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The l2 norm of a view."""
    return _norm(a, 1.0, a, 1.0, dims, False, WIDE, BLOCK)


@triton.jit
def exact_distance(a, b, dims, NORMALIZE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The l2 distance of two views, as they are or each divided by max(its norm, 1e-12)."""
    if NORMALIZE:
        # Norms anew: those made of float sums are off by 3e-8, which would be the distance of parallel views.
        norm_a, norm_b = exact_norm(a, dims, WIDE, BLOCK), exact_norm(b, dims, WIDE, BLOCK)
        divisor_a, divisor_b = tl.where(norm_a < 1e-12, 1e-12, norm_a), tl.where(norm_b < 1e-12, 1e-12, norm_b)
        return _norm(a, divisor_a, b, divisor_b, dims, True, WIDE, BLOCK)
    return _norm(a, 1.0, b, 1.0, dims, True, WIDE, BLOCK)


@triton.jit
def _norm(a, divisor_a, b, divisor_b, dims, PAIR: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    dims = tl.cast(dims, tl.int64)  # 2^31 - 1 of them and a block more would wrap
    # Squares of doubles overflow from 1e154 on and vanish below 1e-162: divide by a power of two near the largest
    # first. Squares of floats fit.
    unit = tl.full([], 1.0, tl.float64)
    if WIDE.is_fp64():
        largest = tl.zeros([BLOCK], tl.float64)
        for start in range(0, dims, BLOCK):
            size = tl.abs(_elements(a, divisor_a, b, divisor_b, start, dims, PAIR, BLOCK))
            largest = tl.where(size > largest, size, largest)  # passes over NaN, which the sum will meet
        unit = _power_of_two_below(tl.max(largest, 0))
    squares = tl.zeros([BLOCK], tl.float64)
    for start in range(0, dims, BLOCK):
        element = _elements(a, divisor_a, b, divisor_b, start, dims, PAIR, BLOCK) / unit
        squares += element * element
    return unit * tl.sqrt(tl.sum(squares, 0))


@triton.jit
def _elements(a, divisor_a, b, divisor_b, start, dims, PAIR: tl.constexpr, BLOCK: tl.constexpr):
    d = tl.cast(start, tl.int64) + tl.arange(0, BLOCK)
    x = tl.load(a + d, mask=d < dims, other=0.0).to(tl.float64) / divisor_a
    if PAIR:
        x -= tl.load(b + d, mask=d < dims, other=0.0).to(tl.float64) / divisor_b
    return x


@triton.jit
def _power_of_two_below(x):
    """2^floor(log2(x)) within 2^-1000 to 2^1000: the exponent bits of the number, its fraction cleared."""
    bits = tl.cast(x, tl.int64, bitcast=True) & 0x7FF0000000000000
    power = tl.cast(bits, tl.float64, bitcast=True)
    power = tl.where(power < 9.332636185032189e-302, 9.332636185032189e-302, power)
    return tl.where(power > 1.0715086071862673e301, 1.0715086071862673e301, power)
