"""Learning curves of arms: known ratios come back, intervals are Student's."""

from __future__ import annotations

import math

import pytest
from scipy.stats import ttest_1samp

from clusterflow.evaluate.arms import SELECTED, ArmCurve, ArmPoint, advantages, confidence, mean_curves, needed
from clusterflow.evaluate.report.arms import controls


def curve(arm: str, *points: tuple[int, float, float], ended: str = "") -> ArmCurve:
    """From (labels, core-seconds, MAE_P95)."""
    made = [ArmPoint(i, n, s, e / 2, e / 1.5, e) for i, (n, s, e) in enumerate(points)]
    return ArmCurve(arm, tuple(made), ended)


def power(arm: str, factor: float, cost: float, noise: float = 1.0) -> ArmCurve:
    """Error 400 at 10 labels, falling as (labels bought / factor)^-1/2: the arm needs ``factor`` times the labels."""
    bought = [0, 10, 20, 40]
    return curve(arm, *[(10 + n, 100 + cost * n, 400 * noise / math.sqrt((10 + n / factor) / 10)) for n in bought])


def test_needed_interpolates_logarithms() -> None:
    straight = curve("a", (10, 100.0, 100.0), (40, 400.0, 50.0))
    assert needed(straight, 100 / math.sqrt(2), "n_labels") == pytest.approx(20.0)
    assert needed(straight, 100 / math.sqrt(2), "core_seconds") == pytest.approx(200.0)
    assert needed(straight, 120.0, "n_labels") == 10.0
    assert needed(straight, 49.0, "n_labels") is None


def test_a_later_rise_does_not_undo_what_was_reached() -> None:
    wavy = curve("a", (10, 1.0, 100.0), (20, 2.0, 60.0), (30, 3.0, 90.0), (40, 4.0, 50.0))
    assert needed(wavy, 60.0, "n_labels") == pytest.approx(20.0)
    assert 20 < (needed(wavy, 55.0, "n_labels") or 0) < 40


def test_an_arm_that_learns_half_as_fast_needs_more_labels() -> None:
    runs = [[power(SELECTED, 1.0, 10.0, n), power("random", 2.0, 10.0, n), power("periodic", 1.0, 70.0, n)]
            for n in (0.9, 1.0, 1.1)]  # fmt: skip
    random, periodic = advantages(runs)
    assert (random.arm, random.reached, random.seeds) == ("random", 3, 3)
    assert random.labels is not None
    assert random.labels.mean == pytest.approx(50 / 30, rel=0.03)  # 30 labels of the campaign: 10 + 40/2
    assert random.labels.low is not None
    assert random.labels.low <= random.labels.mean <= (random.labels.high or 0)
    assert periodic.labels is not None
    assert periodic.core_seconds is not None
    assert periodic.labels.mean == pytest.approx(1.0)
    assert periodic.core_seconds.mean == pytest.approx((100 + 70 * 40) / (100 + 10 * 40), rel=1e-6)


def test_no_ratio_where_one_never_got_better() -> None:
    worse = curve("random", (10, 100.0, 400.0), (20, 200.0, 450.0))
    (row,) = advantages([[power(SELECTED, 1.0, 10.0), worse]])
    assert (row.labels, row.reached, row.seeds) == (None, 0, 1)


def test_interval_is_students() -> None:
    values = [3.0, 4.0, 6.5, 5.0]
    found = confidence(values)
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 4)
    assert confidence([3.0]).low is None
    geometric = confidence([0.5, 2.0], logarithmic=True)
    assert geometric.mean == pytest.approx(1.0)
    assert geometric.low == pytest.approx(1 / geometric.high)


def test_mean_curves_take_the_last_potential_of_an_iteration() -> None:
    twice = ArmCurve(SELECTED, (ArmPoint(1, 10, 1.0, 1, 1, 90.0), ArmPoint(1, 10, 1.0, 1, 1, 80.0)))
    (point,) = mean_curves([[twice]])[SELECTED]
    assert point.mae_p95.mean == pytest.approx(80.0)


def test_intervals_of_errors_are_positive() -> None:
    runs = [[curve(SELECTED, (10, 1.0, error))] for error in (1000.0, 5000.0)]
    (point,) = mean_curves(runs)[SELECTED]
    assert point.mae_p95.mean == pytest.approx(math.sqrt(5e6))
    assert (point.mae_p95.low or 0) > 0


def test_the_section_shows_every_arm_and_says_what_one_seed_is_worth() -> None:
    runs = [[power(SELECTED, 1.0, 10.0), curve("random", (10, 100.0, 400.0), ended="training <failed> twice")]]
    body = controls(runs).body
    assert body.count("<svg") == 2
    assert "random" in body
    assert "training &lt;failed&gt; twice" in body
    assert "One seed says little" in body
    assert "One seed" not in controls(runs * 2).body
