"""Steps that change the colors of a view's pixels, with torchvision's arithmetic.

Pixels are computed in float32: whole numbers 0 to 255 for uint8 images, cut to whole numbers after every step, and 0 to
1 for float32 images.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Codes of steps, as in csrc/ops.h.
BRIGHTNESS = tl.constexpr(1)
CONTRAST = tl.constexpr(2)
SATURATION = tl.constexpr(3)
HUE = tl.constexpr(4)
GRAY = tl.constexpr(5)
INVERT = tl.constexpr(6)
SOLARIZE = tl.constexpr(7)
BLUR = tl.constexpr(8)


@triton.jit
def luma(r, g, b, BYTES: tl.constexpr):
    """The gray of pixels."""
    return _cut(tl.fma(b, spread(0.114, b), tl.fma(g, spread(0.587, g), r * 0.2989)), BYTES)


@triton.jit
def spread(value, x):
    """Makes a tensor of one value for every pixel, because fma takes no scalar."""
    return tl.zeros(x.shape, tl.float32) + value


@triton.jit
def changed(code, value, mean, r, g, b, BYTES: tl.constexpr, COLORED: tl.constexpr):
    """Pixels after one step; ``mean`` is that of the luma over the view. Blur is not a step of single pixels."""
    FULL: tl.constexpr = 255.0 if BYTES else 1.0
    if code == BRIGHTNESS:
        r, g, b = _lit(r, value, FULL, BYTES), _lit(g, value, FULL, BYTES), _lit(b, value, FULL, BYTES)
    if code == CONTRAST:
        r, g, b = (
            _blended(r, mean, value, FULL, BYTES),
            _blended(g, mean, value, FULL, BYTES),
            _blended(b, mean, value, FULL, BYTES),
        )
    if code == INVERT:
        r, g, b = FULL - r, FULL - g, FULL - b
    if code == SOLARIZE:
        bound = value if BYTES else tl.div_rn(value, 255.0)
        r, g, b = (
            tl.where(r >= bound, FULL - r, r),
            tl.where(g >= bound, FULL - g, g),
            tl.where(b >= bound, FULL - b, b),
        )
    if COLORED:
        if code == SATURATION:
            gray = luma(r, g, b, BYTES)
            r, g, b = (
                _blended(r, gray, value, FULL, BYTES),
                _blended(g, gray, value, FULL, BYTES),
                _blended(b, gray, value, FULL, BYTES),
            )
        if code == GRAY:
            r = luma(r, g, b, BYTES)
            g, b = r, r
        if code == HUE:
            r, g, b = _turned(r, g, b, value, BYTES)
    return r, g, b


@triton.jit
def _cut(x, BYTES: tl.constexpr):
    return x.to(tl.int32).to(tl.float32) if BYTES else x


@triton.jit
def _clamped(x, FULL: tl.constexpr):
    return tl.where(x < 0, 0.0, tl.where(x > FULL, FULL, x))  # NaN stays


@triton.jit
def _lit(x, factor, FULL: tl.constexpr, BYTES: tl.constexpr):
    return _cut(_clamped(x * factor, FULL), BYTES)


@triton.jit
def _blended(x, other, ratio, FULL: tl.constexpr, BYTES: tl.constexpr):
    """The sum x * ratio + other * (1 - ratio)."""
    rest = (1.0 - ratio.to(tl.float64)).to(tl.float32)
    return _cut(_clamped(tl.fma(spread(other, x), spread(rest, x), x * ratio), FULL), BYTES)


@triton.jit
def _turned(red, green, blue, turn, BYTES: tl.constexpr):
    """Through HSV: the hue is turned by ``turn`` circles."""
    to_one: tl.constexpr = 1.0 / 255.0 if BYTES else 1.0
    r, g, b = red * to_one, green * to_one, blue * to_one
    top, low = tl.where(r > g, r, g), tl.where(r < g, r, g)
    top, low = tl.where(top > b, top, b), tl.where(low < b, low, b)
    flat, is_red, is_green = top == low, top == r, top == g
    spread = top - low
    s, divisor = tl.div_rn(spread, tl.where(flat, 1.0, top)), tl.where(flat, 1.0, spread)
    plus = top - tl.where(is_red, b, tl.where(is_green, r, g))
    minus = top - tl.where(is_red, g, tl.where(is_green, b, r))
    base = tl.where(is_red, 0.0, tl.where(is_green, 2.0, 4.0))
    h = (tl.div_rn(plus, divisor) + base) - tl.div_rn(minus, divisor)
    h = h * (1.0 / 6.0) + 1.0  # in [5/6, 11/6]: the whole part is 0 or 1
    h = tl.where(h >= 1.0, h - 1.0, h) + turn  # in [-1/2, 3/2]
    h = tl.where(h >= 1.0, h - 1.0, h)
    six = tl.where(h < 0.0, h + 1.0, h) * 6.0
    sector = six.to(tl.int32)
    share = s * (six - sector.to(tl.float32))
    most = 1.0 - s
    up, down = _clamped((share + most) * top, 1.0), _clamped((1.0 - share) * top, 1.0)
    least = _clamped(most * top, 1.0)
    first = (sector == 0) | (sector == 6)  # 6: h was rounded to 1
    r = tl.where(first | (sector == 5), top, tl.where(sector == 1, down, tl.where(sector == 4, up, least)))
    g = tl.where(first, up, tl.where(sector <= 2, top, tl.where(sector == 3, down, least)))
    b = tl.where(sector == 2, up, tl.where((sector == 3) | (sector == 4), top, tl.where(sector == 5, down, least)))
    if BYTES:
        return _cut(r * 255.999, BYTES), _cut(g * 255.999, BYTES), _cut(b * 255.999, BYTES)
    undefined = (red != red) | (green != green) | (blue != blue)
    nan = float("nan")
    return tl.where(undefined, nan, r), tl.where(undefined, nan, g), tl.where(undefined, nan, b)
