"""The picture of who worked when: one strip per lane, one row per worker, the pauses of the campaign shaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from html import escape

from clusterflow.evaluate.report.data import LaneStrip
from clusterflow.evaluate.report.svg import Axis, number

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 1000.0, 64.0, 12.0, 10.0, 40.0
_MOST_HEIGHT, _GAP = 130.0, 14.0
_STYLE = {"md": "s1", "label": "s2", "train": "s4", "local": "s3"}
_UNITS = ((2 * 86_400.0, 86_400.0, "d"), (2 * 3600.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))


def gantt(strips: Sequence[LaneStrip], periods: Sequence[tuple[float, float]]) -> str:
    """SVG of the lanes over time; ``periods`` (s) are those in which a driver ran."""
    end = max([e for _, e in periods] + [b.end for s in strips for b in s.bars] + [1e-3])
    factor, unit = next((f, u) for least, f, u in _UNITS if end >= least)
    axis = Axis(f"time since the campaign was opened [{unit}]", 0.0, end / factor)

    def across(seconds: float) -> float:
        return _LEFT + axis.fraction(seconds / factor) * (_WIDTH - _LEFT - _RIGHT)

    parts, top = [], _TOP
    for strip in strips:
        rows = 1 + max((b.row for b in strip.bars), default=0)
        each = max(min(16.0, _MOST_HEIGHT / rows), 0.5)
        parts.append(_strip(strip, rows, each, top, across))
        top += rows * each + _GAP
    bottom = top - _GAP + 4
    shaded = "".join(
        f'<rect class="pause" x="{across(a):.1f}" y="{_TOP:g}" width="{max(across(b) - across(a), 1):.1f}" '
        f'height="{bottom - _TOP:.1f}"/>'
        for (_, a), (b, _) in itertools.pairwise(periods)
    )
    ticks = "".join(
        f'<path class="grid" d="M{across(t * factor):.1f} {_TOP:g}V{bottom:.1f}"/>'
        f'<text x="{across(t * factor):.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{number(t)}</text>'
        for t in axis.ticks()
    )
    return (
        f'<svg class="wide" viewBox="0 0 {_WIDTH:g} {bottom + _BOTTOM:.0f}" role="img" '
        f'aria-label="tasks of each lane over time">{ticks}{shaded}{"".join(parts)}'
        f'<path class="axis" d="M{_LEFT:g} {bottom:.1f}H{_WIDTH - _RIGHT:g}"/>'
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{bottom + 33:.1f}" text-anchor="middle">'
        f"{escape(axis.label)}</text></svg>"
    )


def _strip(strip: LaneStrip, rows: int, each: float, top: float, across: Callable[[float], float]) -> str:
    thick = max(each - (1.5 if each > 5 else 0.0), 0.5)
    done = "".join(
        f"M{across(b.begin):.1f} {top + b.row * each:.1f}h{max(across(b.end) - across(b.begin), 0.4):.1f}"
        f"v{thick:.1f}H{across(b.begin):.1f}z"
        for b in strip.bars
    )
    style = _STYLE.get(strip.lane, "s3")
    return (
        f'<text class="label" x="{_LEFT - 8:g}" y="{top + rows * each / 2 + 4:.1f}" text-anchor="end">'
        f'{escape(strip.lane)}</text><path class="run {style}" d="{done}"/>'
    )


def merged(bars: Sequence[tuple[float, float, int]], least: float) -> list[tuple[float, float, int]]:
    """Bars of one row joined where less than ``least`` s lies between them, so that a long campaign stays drawable."""
    last: dict[int, int] = {}
    out: list[tuple[float, float, int]] = []
    for begin, end, row in bars:
        at = last.get(row)
        if at is not None and begin - out[at][1] < least:
            out[at] = (out[at][0], max(end, out[at][1]), row)
        else:
            last[row] = len(out)
            out.append((begin, end, row))
    return out
