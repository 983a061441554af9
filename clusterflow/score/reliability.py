"""Does a calibration hold on labels that it has not seen? Coverage, reliability diagram, rank correlation, alarms.

An alarm is raised when novelty and force error decouple: when novelty does not rank the errors any more, or when more
errors exceed their bounds than the bounds allow. Both are judged by the better end of an interval, so that few labels
raise no alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.score.calibration import Calibration, Estimate
from clusterflow.score.correlation import ALL, Correlation, rank_correlation

LEAST_RANK = 0.1
"""A rank correlation that is certainly below this is an alarm."""
COVERAGE_SLACK = 0.1
"""A coverage that is certainly below the confidence by more than this is an alarm."""
FEWEST_STRUCTURES = 8
"""Structures below which no alarm is raised: a bootstrap over fewer makes intervals that are too narrow."""
_FEWEST_GROUPS = 3
_BINS = 8
_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a calibration does for one element (or `ALL`) over ``n_atoms`` of ``n_groups`` structures.

    ``coverage``: share of errors within their bounds, each structure counting the same, among atoms with a finite bound
    (``n_unbounded`` have none), with its bootstrap interval over structures; ``inside`` the same for atoms no more
    novel than those calibrated on (``n_extrapolated`` are). ``mean_error`` and ``mean_expected`` in eV/Å.
    ``correlation`` of novelty with the error, for `ALL` of the expected error. ``diagram``: rows (expected, true,
    bound: means in eV/Å, number of atoms), by rising expectation. None: not defined for so few.
    """

    element: str
    n_atoms: int
    n_groups: int
    n_unbounded: int
    n_extrapolated: int
    coverage: float | None
    coverage_low: float | None
    coverage_high: float | None
    inside: float | None
    mean_error: float
    mean_expected: float | None
    correlation: Correlation | None
    diagram: tuple[tuple[float, float, float | None, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Alarm:
    """``kind`` "rank" (novelty does not rank errors) or "coverage" (errors exceed their bounds); the ``value`` with its
    interval lies below ``limit``."""

    kind: Literal["rank", "coverage"]
    element: str
    value: float
    low: float
    high: float
    limit: float

    def text(self) -> str:
        """One sentence for people."""
        who = "all atoms" if self.element == ALL else f"{self.element} atoms"
        if self.kind == "rank":
            return (
                f"novelty does not rank the force errors of {who}: rank correlation {self.value:.2f} "
                f"({self.low:.2f} to {self.high:.2f}), below {self.limit:g}"
            )
        return (
            f"force errors of {who} exceed their bounds too often: {self.value:.0%} are within "
            f"({self.low:.0%} to {self.high:.0%}), below {self.limit:.0%}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the sentence."""
        return {**asdict(self), "text": self.text()}


def assess(
    calibration: Calibration,
    novelty: ArrayLike,
    force_error: ArrayLike,
    elements: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int = 0,
) -> dict[str, Reliability]:
    """Reliability per element and under `ALL`, for atoms as in `calibrate`; NaN errors (no label) are left out.
    Elements with fewer than three labelled atoms are absent.

    Raises
    ------
    InputError
        Arrays that do not belong together.
    """
    estimate = calibration.estimate(novelty, elements)
    y, names = np.asarray(force_error, dtype=np.float64).ravel(), np.asarray(elements, dtype=np.str_).ravel()
    structure = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    x = np.asarray(novelty, dtype=np.float64).ravel()
    known = np.isfinite(y)
    found = {}
    for name in [ALL, *np.unique(names)]:
        mine = known & (np.ones(len(y), dtype=bool) if name == ALL else names == name)
        if mine.sum() >= 3:
            ranked = estimate.error if name == ALL else x
            correlation = rank_correlation(ranked[mine], y[mine], groups=structure[mine], seed=seed)
            found[str(name)] = _reliability(str(name), estimate, y, structure, mine, correlation, seed)
    return found


def _reliability(
    name: str,
    estimate: Estimate,
    error: FloatArray,
    structure: IntArray,
    mine: BoolArray,
    correlation: Correlation | None,
    seed: int,
) -> Reliability:
    bounded = mine & np.isfinite(estimate.bound)
    within = error <= estimate.bound
    low, high = _interval(_shares(within, structure, bounded), seed)
    told = mine & np.isfinite(estimate.error)
    return Reliability(
        element=name,
        n_atoms=int(mine.sum()),
        n_groups=len(np.unique(structure[mine])),
        n_unbounded=int((mine & ~bounded).sum()),
        n_extrapolated=int((mine & estimate.extrapolated).sum()),
        coverage=_mean(_shares(within, structure, bounded)),
        coverage_low=low,
        coverage_high=high,
        inside=_mean(_shares(within, structure, bounded & ~estimate.extrapolated)),
        mean_error=float(error[mine].mean()),
        mean_expected=_mean(estimate.error[told]),
        correlation=correlation,
        diagram=_diagram(estimate, error, told),
    )


def _shares(within: BoolArray, structure: IntArray, which: BoolArray) -> FloatArray:
    """Share of atoms within their bounds, per structure that has any."""
    return np.array([within[which & (structure == g)].mean() for g in np.unique(structure[which])], dtype=np.float64)


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _interval(shares: FloatArray, seed: int) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap over structures."""
    if len(shares) < _FEWEST_GROUPS:
        return None, None
    drawn = np.random.default_rng(seed).integers(0, len(shares), (_RESAMPLES, len(shares)))
    low, high = np.quantile(shares[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _diagram(
    estimate: Estimate, error: FloatArray, which: BoolArray
) -> tuple[tuple[float, float, float | None, int], ...]:
    index = np.flatnonzero(which)
    if not len(index):
        return ()
    order = index[np.argsort(estimate.error[index], kind="stable")]
    rows = []
    for part in np.array_split(order, min(_BINS, max(1, len(order) // 5))):
        bound = float(estimate.bound[part].mean())
        expected, true = float(estimate.error[part].mean()), float(error[part].mean())
        rows.append((expected, true, bound if np.isfinite(bound) else None, len(part)))
    return tuple(rows)


def alarms(found: Mapping[str, Reliability], *, confidence: float, ranks: bool) -> list[Alarm]:
    """What is wrong, all atoms together before single elements. ``ranks``: judge the
    rank correlation too, which says something only where there is novelty to rank (new labels; on a test set like the
    training data it may honestly be zero)."""
    raised: list[Alarm] = []
    for name, r in found.items():
        c = r.correlation
        if ranks and c is not None and c.n_groups >= FEWEST_STRUCTURES and c.spearman is not None:
            low, high = c.spearman_low, c.spearman_high
            if low is not None and high is not None and high < LEAST_RANK:
                raised.append(Alarm("rank", name, c.spearman, low, high, LEAST_RANK))
        limit = confidence - COVERAGE_SLACK
        value, low, high = r.coverage, r.coverage_low, r.coverage_high
        judged = r.n_groups >= FEWEST_STRUCTURES
        if judged and value is not None and low is not None and high is not None and high < limit:
            raised.append(Alarm("coverage", name, value, low, high, limit))
    return sorted(raised, key=lambda a: (a.element != ALL, a.element, a.kind))


def texts(raised: Sequence[Alarm]) -> list[str]:
    """The sentences, those of single elements left out where all atoms together raise the same alarm."""
    general = {a.kind for a in raised if a.element == ALL}
    return [a.text() for a in raised if a.element == ALL or a.kind not in general]
