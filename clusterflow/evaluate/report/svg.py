"""Small plots as SVG text: axes with units, lines, points, bars and cells. Colours come from the page's style sheet, so
the same figure fits the light and the dark page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 340.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 24.0, 44.0
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """``label`` with its unit; from ``low`` to ``high``, on a logarithmic scale if ``log`` (then both are positive)."""

    label: str
    low: float
    high: float
    log: bool = False

    def fraction(self, value: float) -> float:
        """Where ``value`` lies between low (0) and high (1)."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether ``value`` is on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Round numbers on the axis."""
        if self.log:
            return self._log_ticks()
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 4))
        step = next((m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= 5.5), 10 * power)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for multiples in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
            every = max(1, (high - low) // 5) if multiples == (1,) else 1
            ticks = [m * 10.0**p for p in range(low, high + 1, every) for m in multiples]
            ticks = [t for t in ticks if self.low * 0.999 <= t <= self.high * 1.001]
            if len(ticks) >= 3:
                return ticks
        return ticks


def spanning(label: str, values: Iterable[float], *, zero: bool = False, log: bool = False) -> Axis:
    """An axis around the finite ``values`` with a margin; from zero if ``zero``; logarithmic if asked and possible."""
    finite = [float(v) for v in values if math.isfinite(v)]
    if log and finite and min(finite) > 0:
        low, high = min(finite), max(finite)
        margin = max((high / low) ** 0.08, 1.15)
        return Axis(label, low / margin, high * margin, True)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = 0.5 * abs(high) or 0.5
        low, high = low - (0.0 if zero and low == 0.0 else pad), high + pad
    margin = 0.06 * (high - low)
    return Axis(label, low if zero and low == 0.0 else low - margin, high + margin)


def number(value: float) -> str:
    """A tick or table number: no needless digits, powers of ten written as such."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)) + 1e-9)
    if power >= 5 or power <= -4:
        mantissa = value / 10.0**power
        head = "" if abs(mantissa - 1) < 1e-9 else f"{mantissa:.3g}·"
        return f"{head}10{str(power).translate(_SUPERSCRIPT)}"
    return (f"{value:.0f}" if power == 4 else f"{value:.4g}").replace("-", "−")


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot area; its methods give SVG elements in its coordinates."""

    x: Axis
    y: Axis
    title: str = ""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data → SVG coordinates."""
        return (
            _LEFT + self.x.fraction(x) * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - self.y.fraction(y) * (HEIGHT - _TOP - _BOTTOM),
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> str:
        """A polyline through the points that are finite."""
        points = [self.at(a, b) for a, b in zip(xs, ys, strict=True) if math.isfinite(a) and math.isfinite(b)]
        return f'<polyline class="line {style}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'

    def dots(self, xs: Sequence[float], ys: Sequence[float], style: str, size: float = 3.0) -> str:
        """Many dots as one path (compact); points off the axes are left out."""
        path = "".join(
            "M{:.1f} {:.1f}h0".format(*self.at(a, b))
            for a, b in zip(xs, ys, strict=True)
            if self.x.holds(a) and self.y.holds(b)
        )
        return f'<path class="dots {style}" stroke-width="{size:g}" d="{path}"/>' if path else ""

    def marks(self, xs: Sequence[float], ys: Sequence[float], style: str, shape: str) -> str:
        """Markers that differ in shape as well as in colour: "circle", "square" or "cross"."""
        out = []
        for a, b in zip(xs, ys, strict=True):
            if not (self.x.holds(a) and self.y.holds(b)):
                continue
            u, v = self.at(a, b)
            if shape == "circle":
                out.append(f'<circle class="mark {style}" cx="{u:.1f}" cy="{v:.1f}" r="4"/>')
            elif shape == "square":
                out.append(f'<rect class="mark {style}" x="{u - 3.5:.1f}" y="{v - 3.5:.1f}" width="7" height="7"/>')
            else:
                path = f"M{u - 3.5:.1f} {v - 3.5:.1f}l7 7m0 -7l-7 7"
                out.append(f'<path class="cross {style}" d="{path}"/>')
        return "".join(out)

    def bar(self, low: float, high: float, value: float, style: str) -> str:
        """A bar from zero (or the lower end) to ``value`` between ``low`` and ``high``."""
        if value <= self.y.low:
            return ""
        x0, y0 = self.at(low, max(self.y.low, 0.0) if not self.y.log else self.y.low)
        x1, y1 = self.at(high, value)
        return (
            f'<rect class="{style}" x="{x0:.1f}" y="{y1:.1f}" width="{max(x1 - x0, 0.5):.1f}" height="{y0 - y1:.1f}"/>'
        )

    def cells(self, cells: Sequence[tuple[float, float, float, float, float]], levels: int = 8) -> str:
        """Shaded rectangles (x low, x high, y low, y high, strength 0 to 1) of a density map, one path per shade."""
        paths: dict[int, list[str]] = {}
        for x_low, x_high, y_low, y_high, strength in cells:
            x0, y0 = self.at(x_low, y_low)
            x1, y1 = self.at(x_high, y_high)
            shade = min(int(strength * levels), levels - 1)
            paths.setdefault(shade, []).append(f"M{x0:.1f} {y1:.1f}H{x1:.1f}V{y0:.1f}H{x0:.1f}z")
        return "".join(
            f'<path class="cell" opacity="{0.3 + 0.65 * (shade + 1) / levels:.2f}" d="{"".join(d)}"/>'
            for shade, d in sorted(paths.items())
        )

    def note(self, text: str, line: int = -1) -> str:
        """A remark at the right edge of the plot area: ``line`` 0, 1 … from the top, −1 at the bottom."""
        v = _TOP + 12 + 14 * line if line >= 0 else HEIGHT - _BOTTOM - 6
        return f'<text class="note" x="{WIDTH - _RIGHT - 4:g}" y="{v:g}" text-anchor="end">{escape(text)}</text>'

    def draw(self, *content: str, points: Sequence[tuple[float, float, int, int]] = ()) -> str:
        """The whole SVG: grid, content, axes. ``points`` (x, y, structure, atom) in SVG coordinates can be clicked."""
        right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        grid, labels = [], []
        for tick in self.x.ticks():
            u = self.at(tick, self.y.low)[0]
            grid.append(f'<path class="grid" d="M{u:.1f} {_TOP:g}V{bottom:g}"/>')
            labels.append(f'<text x="{u:.1f}" y="{bottom + 15:g}" text-anchor="middle">{number(tick)}</text>')
        for tick in self.y.ticks():
            v = self.at(self.x.low, tick)[1]
            grid.append(f'<path class="grid" d="M{_LEFT:g} {v:.1f}H{right:g}"/>')
            labels.append(f'<text x="{_LEFT - 5:g}" y="{v + 4:.1f}" text-anchor="end">{number(tick)}</text>')
        middle = (_TOP + bottom) / 2
        name = escape(f"{self.title}: {self.y.label} against {self.x.label}", quote=True)
        linked = f' data-points="{escape(json.dumps(points, separators=(",", ":")), quote=True)}"' if points else ""
        return (
            f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{name}"{linked}>'
            f"{''.join(grid)}{''.join(content)}"
            f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>{"".join(labels)}'
            f'<text class="label" x="{(_LEFT + right) / 2:g}" y="{HEIGHT - 8:g}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
            f'<text class="label" transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.label)}</text>"
            f'<text class="title" x="{_LEFT:g}" y="15">{escape(self.title)}</text></svg>'
        )


def central_range(values: Sequence[float], fraction: float = 0.98) -> tuple[float, float]:
    """The range that holds the middle ``fraction`` of the finite values."""
    finite = np.asarray([v for v in values if math.isfinite(v)], dtype=np.float64)
    if not finite.size:
        return 0.0, 1.0
    tail = 0.5 * (1.0 - fraction)
    return float(np.quantile(finite, tail)), float(np.quantile(finite, 1.0 - tail))
