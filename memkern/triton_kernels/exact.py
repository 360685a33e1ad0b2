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
def exact_l1(a, b, dims, NORMALIZE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The l1 distance of two views, as they are or each divided by max(its l2 norm, 1e-12)."""
    divisor_a, divisor_b = tl.full([], 1.0, tl.float64), tl.full([], 1.0, tl.float64)
    if NORMALIZE:
        norm_a, norm_b = exact_norm(a, dims, WIDE, BLOCK), exact_norm(b, dims, WIDE, BLOCK)
        divisor_a, divisor_b = tl.where(norm_a < 1e-12, 1e-12, norm_a), tl.where(norm_b < 1e-12, 1e-12, norm_b)
    dims = tl.cast(dims, tl.int64)
    sizes = tl.zeros([BLOCK], tl.float64)
    for start in range(0, dims, BLOCK):
        sizes += tl.abs(_elements(a, divisor_a, b, divisor_b, start, dims, True, BLOCK))
    return tl.sum(sizes, 0)


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


@triton.jit
def of_directions(l2, DISTANCE: tl.constexpr):
    """Distances of directions from l2 distances of unit vectors, float64: cosine d^2 / 2, angular 2 asin(d / 2) / pi.

    Triton has no arcsine for its interpreter: this is that of fdlibm, by a quotient of polynomials below a half, and
    from there on by asin x = pi / 2 - 2 asin(sqrt((1 - x) / 2)). Rounding may take an l2 distance above 2.
    """
    if DISTANCE == "cosine":
        return l2 * l2 * 0.5
    x = tl.where(l2 > 2, 1.0, l2 * 0.5)  # NaN stays
    small = x < 0.5
    t = tl.where(small, x * x, (1 - x) * 0.5)
    s = tl.where(small, x, tl.sqrt(t))
    p = t * (1.66666666666666657415e-01 + t * (-3.25565818622400915405e-01 + t * (2.01212532134862925881e-01 + t * (
        -4.00555345006794114027e-02 + t * (7.91534994289814532176e-04 + t * 3.47933107596021167570e-05)))))  # fmt: skip
    q = 1 + t * (-2.40339491173441421878e00 + t * (2.02094576023350569471e00 + t * (
        -6.88283971605453293030e-01 + t * 7.70381505559019352791e-02)))  # fmt: skip
    arcsine = s + s * (p / q)
    return tl.where(small, arcsine, 1.5707963267948966 - 2 * arcsine) * 0.6366197723675814
