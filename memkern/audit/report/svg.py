"""A small drawing board for charts: inline SVG whose colors are the page's, so it follows light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from memkern.audit.report.text import clean


def number(value: float) -> str:
    """Writes a coordinate: one decimal is finer than a screen."""
    return f"{value:.1f}".removesuffix(".0")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Chooses round numbers inside a range.

    Args:
        low: Lower end of the range.
        high: Upper end.
        count: About how many numbers.

    Returns:
        The numbers, in ascending order.

    Example:
        >>> ticks(-0.02, 0.31)
        [0.0, 0.1, 0.2, 0.3]
    """
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low] if math.isfinite(low) else [0.0]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Writes a tick's number without needless zeros, with a true minus."""
    return f"{value:.6g}".replace("-", "−")


class Scale:
    """Maps values to coordinates, linearly.

    Args:
        low: Value at `start`.
        high: Value at `end`.
        start: Coordinate of `low`.
        end: Coordinate of `high`.
    """

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high if high > low else low + 1.0, start, end

    def __call__(self, value: float) -> float:
        """The coordinate of a value; values outside are put at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


class Board:
    """Drawing board: an SVG being drawn.

    Args:
        width: Width in CSS pixels at natural size.
        height: Height.
        label: What the picture shows, for readers who cannot see it.
        kind: CSS classes of the picture.
    """

    def __init__(self, width: float, height: float, label: str, kind: str = "") -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg class="chart {kind}" viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" '
            f'height="{number(height)}" role="img" aria-label="{escape(clean(label))}">'
        ]

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Writes a line of text with its baseline at `y`."""
        self._parts.append(
            f'<text x="{number(x)}" y="{number(y)}" class="{kind}" text-anchor="{anchor}">{escape(clean(text))}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Draws a line."""
        self.path(f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", kind)

    def rect(self, x: float, y: float, width: float, height: float, kind: str, fill: str = "", tip: str = "") -> None:
        """Draws a rectangle; `tip` shows when it is pointed at."""
        style = f' fill="{fill}"' if fill else ""
        inner = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" height="{number(max(height, 0))}" '
            f'class="{kind}"{style}>{inner}</rect>'
        )

    def path(self, d: str, kind: str, fill: str = "") -> None:
        """Draws a path."""
        style = f' fill="{fill}"' if fill else ""
        self._parts.append(f'<path d="{d}" class="{kind}"{style}/>')

    def dots(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draws many dots as one path of zero-length strokes with round ends: ten bytes a dot."""
        self.path("".join(f"M{number(x)} {number(y)}h0" for x, y in points), f"dots {kind}")

    def mark(self, x: float, y: float, shape: str, kind: str, tip: str = "", size: float = 4.5) -> None:
        """Draws one mark; shapes differ as well as colors, for those who see no difference between the colors."""
        s = size
        shapes = {
            "disc": f"M{number(x - s)} {number(y)}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0Z",
            "diamond": f"M{number(x)} {number(y - s)}l{s} {s}l{-s} {s}l{-s} {-s}Z",
        }
        inner = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self._parts.append(f'<path d="{shapes[shape]}" class="{kind}">{inner}</path>')

    def svg(self) -> str:
        """Returns the picture as HTML."""
        return "".join([*self._parts, "</svg>"])
