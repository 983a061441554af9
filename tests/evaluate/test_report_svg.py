import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from clusterflow.evaluate.report.svg import Axis, Panel, central_range, number, spanning


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 4.1), (0, 1.7e5), (1e-7, 9e-7), (12, 27), (-0.001, 0.0), (995, 1005)]
)
def test_linear_ticks_are_few_round_and_inside(low, high):
    ticks = Axis("x", low, high).ticks()
    assert 3 <= len(ticks) <= 7
    assert all(low - 1e-12 <= t <= high * (1 + 1e-12) + 1e-12 for t in ticks)
    steps = {round((b - a) / (high - low), 6) for a, b in pairwise(ticks)}
    assert len(steps) == 1


@pytest.mark.parametrize(("low", "high"), [(1, 10), (30, 90), (130, 2200), (1e-3, 1e6), (100, 125)])
def test_log_ticks_are_inside(low, high):
    ticks = Axis("x", low, high, log=True).ticks()
    assert 2 <= len(ticks) <= 10 or high / low < 1.5
    assert all(low * 0.99 <= t <= high * 1.01 for t in ticks)


def test_spanning_survives_anything():
    for values in ([], [3.0], [0.0, 0.0], [math.nan, 2.0], [math.inf], [5.0, 5.0]):
        for zero in (False, True):
            axis = spanning("x", values, zero=zero)
            assert axis.high > axis.low
            assert axis.ticks()
    assert spanning("x", [3.0, 9.0], zero=True).low == 0.0
    assert not spanning("x", [0.0, 9.0], log=True).log
    assert spanning("x", [1.0, 100.0], log=True).log


def test_numbers():
    assert [number(v) for v in (0, 1500, 2.5, -0.25, 1e6, 3e-5, 2.5e7)] == [
        "0", "1500", "2.5", "−0.25", "10⁶", "3·10⁻⁵", "2.5·10⁷",
    ]  # fmt: skip


def test_a_panel_is_valid_svg_inside_its_frame():
    panel = Panel(Axis("x <m> [Å]", 0, 10), Axis("y [eV]", 1, 1000, log=True), 'a & b "c"')
    drawn = panel.draw(
        panel.line([0, 5, math.nan, 10], [1, 10, 10, 1000], "s1"),
        panel.dots([5, 50], [10, 10], "s2"),
        panel.marks([1], [1.5], "s1", "square"),
        panel.marks([1], [1.5], "s1", "cross"),
        panel.bar(1, 2, 100, "fill s3"),
        panel.cells([(0, 1, 1, 10, 1.0)]),
        panel.note("n < 5"),
    )
    root = ET.fromstring(drawn)
    line = next(e for e in root.iter() if e.tag == "polyline")
    points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
    assert len(points) == 3
    assert points[0][1] > points[-1][1]
    dots = next(e for e in root.iter() if e.get("class") == "dots s2")
    assert dots.get("d").count("M") == 1


def test_central_range_ignores_outliers():
    low, high = central_range([*range(1000), 10**9])
    assert 0 < low < 20
    assert high < 1000
    assert central_range([]) == (0.0, 1.0)
