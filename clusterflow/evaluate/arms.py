"""Learning curves of a campaign and its control arms, over one run or several with different seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

SELECTED: Final = "selected"
"""The campaign's own arm: labels chosen as `select:` says."""
Against = Literal["n_labels", "core_seconds"]


@dataclass(frozen=True, slots=True)
class ArmPoint:
    """One potential on the test set. ``n_labels`` it was trained on (validation included), ``core_seconds`` that these
    took; force errors in meV/Å."""

    iteration: int
    n_labels: int
    core_seconds: float
    mae: float
    rmse: float
    mae_p95: float


@dataclass(frozen=True, slots=True)
class ArmCurve:
    """The potentials of one arm, oldest first; all arms share the first. ``ended``: why it went no further, if so."""

    arm: str
    points: tuple[ArmPoint, ...]
    ended: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean over ``n`` seeds, and its 95 % confidence interval (None with one seed)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def confidence(values: Sequence[float], *, logarithmic: bool = False) -> Interval:
    """Student's interval of the mean; ``logarithmic``: of the geometric mean, for ratios."""
    from scipy.stats import t

    x = np.log(values) if logarithmic else np.asarray(values, dtype=np.float64)
    back = math.exp if logarithmic else float
    n, mean = len(x), float(np.mean(x))
    if n < 2:
        return Interval(back(mean), None, None, n)
    half = float(t.ppf(0.975, n - 1) * np.std(x, ddof=1) / math.sqrt(n))
    return Interval(back(mean), back(mean - half), back(mean + half), n)


def needed(curve: ArmCurve, error: float, against: Against) -> float | None:
    """Labels or core-seconds with which an arm reaches a force MAE_P95 (meV/Å); None if it never does.

    Between two potentials by interpolation of the logarithms. An error that rises again later does not undo what was
    reached.
    """
    before: tuple[float, float] | None = None
    for point in curve.points:
        x, y = float(getattr(point, against)), point.mae_p95
        if y <= error:
            if before is None or before[0] <= 0 or before[1] <= y:
                return x
            part = (math.log(before[1]) - math.log(error)) / (math.log(before[1]) - math.log(y))
            return math.exp(math.log(before[0]) + part * (math.log(x) - math.log(before[0])))
        if before is None or y < before[1]:
            before = (x, y)
    return None


@dataclass(frozen=True, slots=True)
class Advantage:
    """How many times the labels (or core-seconds) of the campaign a control arm needs for the same error, the higher
    one of the lowest errors that the two reach. ``reached``: in so many of the ``seeds``; None: in none did both get
    better than the starting potential."""

    arm: str
    labels: Interval | None
    core_seconds: Interval | None
    reached: int
    seeds: int


def advantages(runs: Sequence[Sequence[ArmCurve]]) -> list[Advantage]:
    """One row per control arm, over the runs that have it."""
    out = []
    for name in arm_names(runs)[1:]:
        ratios: dict[Against, list[float]] = {"n_labels": [], "core_seconds": []}
        pairs = [
            (own, other)
            for curves in runs
            for own in curves
            for other in curves
            if own.arm == SELECTED and other.arm == name and len(own.points) > 1 and len(other.points) > 1
        ]
        for own, other in pairs:
            error = max(min(p.mae_p95 for p in c.points) for c in (own, other))
            if error >= own.points[0].mae_p95:
                continue  # one of them never got better than the potential that both began with
            for against, found in ratios.items():
                a, b = needed(own, error, against), needed(other, error, against)
                if a and b:
                    found.append(b / a)
        made = {k: confidence(v, logarithmic=True) if v else None for k, v in ratios.items()}
        out.append(Advantage(name, made["n_labels"], made["core_seconds"], len(ratios["n_labels"]), len(pairs)))
    return out


@dataclass(frozen=True, slots=True)
class MeanPoint:
    """One iteration of one arm over all seeds: means of labels and cost, geometric mean of the error, whose interval is
    positive so; units as in `ArmPoint`."""

    iteration: int
    n_labels: float
    core_seconds: float
    mae_p95: Interval


def mean_curves(runs: Sequence[Sequence[ArmCurve]]) -> dict[str, list[MeanPoint]]:
    """Arm → its learning curve over all runs: the last potential of each iteration."""
    out: dict[str, list[MeanPoint]] = {}
    for name in arm_names(runs):
        rows: dict[int, list[ArmPoint]] = {}
        for curves in runs:
            for curve in curves:
                if curve.arm == name:
                    for point in {p.iteration: p for p in curve.points}.values():
                        rows.setdefault(point.iteration, []).append(point)
        out[name] = [
            MeanPoint(
                i,
                float(np.mean([p.n_labels for p in points])),
                float(np.mean([p.core_seconds for p in points])),
                confidence([p.mae_p95 for p in points], logarithmic=True),
            )
            for i, points in sorted(rows.items())
        ]
    return out


def arm_names(runs: Sequence[Sequence[ArmCurve]]) -> list[str]:
    """The campaign's own arm first, then the others in the order in which they appear."""
    found: Mapping[str, None] = dict.fromkeys(c.arm for curves in runs for c in curves)
    return [SELECTED, *(n for n in found if n != SELECTED)]
