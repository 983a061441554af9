"""From novelty to the force error to expect, in eV/Å: one rising curve per element, with a conformal bound.

Novelty ranks atoms; by itself it says nothing about how wrong a force is. Where labels were held out of the training
(the validation split), the mean |F_model − F_ref| is fitted as a rising function of novelty (isotonic regression), and
the ratios of true to fitted errors are turned into a factor such that

    bound = factor · (fitted error + floor)

holds for a stated share of the atoms of a new structure. Atoms of one structure are not independent, nor are structures
of one walk (`clusterflow.score.independence`), which count as one here. So the quantile is that of hierarchical
conformal prediction (Lee, Barber and Willett (2023), arXiv:2306.06342): each of the K structures weighs 1/(K + 1),
shared by its atoms, and the rest lies at infinity. With fewer than confidence/(1 − confidence) structures (9 for 90 %)
there is no finite bound, and none is given. A ratio is taken with a curve fitted without the structure's own fold (ten
folds), so that no label is spent on the quantile alone. The guarantee of a strict split holds then as far as the curve
hardly changes when a fold is left out (Barber et al., Ann. Stat. 49, 486 (2021), doi:10.1214/20-AOS1965).

Each element has its own curve and factor (Mondrian conformal prediction); one with too few atoms or structures shares
the pooled curve, over novelty above the element's usual level. Nothing holds for structures that are not like the held
out ones; `clusterflow.score.reliability` checks that on new labels and raises an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.errors import InputError, ScienceError

CONFIDENCE = 0.9
FEWEST_ATOMS = 20
"""Held-out atoms below which no curve is fitted."""
_FOLDS = 10
_FEWEST_PER_KNOT = 10
_MOST_KNOTS = 40
_FLOOR = 0.1
"""Of the mean error: added to the fitted one, so that no ratio is taken with nearly nothing."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a calibration says of n atoms: ``error`` (n,) mean |ΔF| to expect and ``bound`` (n,), both in eV/Å, infinite
    where nothing can be said; ``extrapolated`` (n,): more novel than anything that the curve was fitted to."""

    error: FloatArray
    bound: FloatArray
    extrapolated: BoolArray


@dataclass(frozen=True, slots=True)
class ErrorCurve:
    """Mean force error against novelty: straight lines between knots (``novelty`` (k,) rising, ``error`` (k,) eV/Å
    never falling), level below the first.

    Above the last it grows as (novelty − first)^``power``: a novelty in nats goes as the square of a distance in
    feature space, and an error to lowest order as the distance. ``highest``: largest novelty fitted to. ``factor`` and
    ``floor`` (eV/Å) make the bound. From ``n_atoms`` of ``n_groups`` structures.
    """

    novelty: FloatArray
    error: FloatArray
    power: float
    highest: float
    factor: float
    floor: float
    n_atoms: int
    n_groups: int

    def expected(self, novelty: FloatArray) -> FloatArray:
        """Mean error (n,) in eV/Å; infinite for infinite novelty."""
        out = np.interp(novelty, self.novelty, self.error)
        span = float(self.novelty[-1] - self.novelty[0])
        beyond = novelty > self.novelty[-1]
        if span > 0:
            out[beyond] = self.error[-1] * ((novelty[beyond] - self.novelty[0]) / span) ** self.power
        out[np.isposinf(novelty)] = np.inf
        return np.asarray(out, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Curves per element and pooled. ``levels``: usual novelty of each element, taken off before pooling; ``unit`` of
    the novelty; ``confidence`` of the bounds."""

    curves: Mapping[str, ErrorCurve]
    pooled: ErrorCurve
    levels: Mapping[str, float] = field(default_factory=dict)
    unit: str = "nats"
    confidence: float = CONFIDENCE

    def estimate(self, novelty: ArrayLike, elements: ArrayLike) -> Estimate:
        """For atoms with this ``novelty`` (n,) and chemical symbols ``elements`` (n,).

        Raises
        ------
        InputError
            Different lengths, or NaN.
        """
        x, names, *_ = _checked(novelty, np.zeros(np.size(novelty)), elements, np.zeros(np.size(novelty)))
        error, bound, beyond = np.full(len(x), np.inf), np.full(len(x), np.inf), np.ones(len(x), dtype=bool)
        for name in np.unique(names):
            mine = np.flatnonzero(names == name)
            curve, level = self.curve_of(str(name))
            given = x[mine] - level
            error[mine] = curve.expected(given)
            if math.isfinite(curve.factor):
                bound[mine] = curve.factor * (error[mine] + curve.floor)
            beyond[mine] = given > curve.highest
        return Estimate(error, bound, beyond)

    def curve_of(self, element: str) -> tuple[ErrorCurve, float]:
        """The curve that an element uses, and what is taken off its novelty before."""
        own = self.curves.get(element)
        return (own, 0.0) if own is not None else (self.pooled, float(self.levels.get(element, 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; an infinite factor becomes null."""
        return {
            "unit": self.unit,
            "confidence": self.confidence,
            "levels": dict(self.levels),
            "pooled": _curve_to_json(self.pooled),
            "curves": {e: _curve_to_json(c) for e, c in self.curves.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        curves = {e: _curve_from_json(c) for e, c in data["curves"].items()}
        levels = {e: float(v) for e, v in data["levels"].items()}
        return cls(curves, _curve_from_json(data["pooled"]), levels, str(data["unit"]), float(data["confidence"]))


def calibrate(
    novelty: ArrayLike,
    force_error: ArrayLike,
    elements: ArrayLike,
    groups: ArrayLike,
    *,
    levels: Mapping[str, float] | None = None,
    unit: str = "nats",
    confidence: float = CONFIDENCE,
) -> Calibration:
    """Calibration from held-out atoms: ``novelty`` (n,), ``force_error`` (n,) = |ΔF| in eV/Å, chemical symbols and, in
    ``groups``, the structure or walk of each: the bound holds for a new one. Atoms without a label (NaN error) and with
    infinite novelty are left out.

    Raises
    ------
    InputError
        Different lengths, NaN novelties, or a confidence outside 0 to 1.
    ScienceError
        Fewer than 20 atoms, or all from one structure or walk: no number would mean anything.
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"A confidence of {confidence} makes no bound.", todo="Give one between 0 and 1, such as 0.9.")
    x, names, y, structure = _checked(novelty, force_error, elements, groups)
    known = np.isfinite(x) & np.isfinite(y)
    x, names, y, structure = x[known], names[known], y[known], structure[known]
    n_groups = len(np.unique(structure))
    if len(x) < FEWEST_ATOMS or n_groups < 2:
        raise ScienceError(
            f"{len(x)} held-out atoms of {n_groups} independent structures cannot calibrate a novelty.",
            todo=f"It takes {FEWEST_ATOMS} atoms of 2 structures, and {structures_needed(confidence)} for a bound.",
        )
    usual = {str(e): float((levels or {}).get(str(e), np.median(x[names == e]))) for e in np.unique(names)}
    usual = {**(levels or {}), **usual}
    above = x - np.array([usual[str(e)] for e in names])
    power = 0.5 if unit == "nats" else 1.0
    pooled = _fit(above, y, structure, power=power, confidence=confidence)
    curves = {}
    for name in np.unique(names):
        mine = names == name
        mine_groups = len(np.unique(structure[mine]))
        bounded = mine_groups >= structures_needed(confidence)
        if mine.sum() >= FEWEST_ATOMS and mine_groups >= 2 and (bounded or not math.isfinite(pooled.factor)):
            curves[str(name)] = _fit(x[mine], y[mine], structure[mine], power=power, confidence=confidence)
    return Calibration(curves, pooled, usual, unit, confidence)


def structures_needed(confidence: float) -> int:
    """Structures below which no finite bound has this confidence: K / (K + 1) must reach it."""
    return math.ceil(confidence / (1.0 - confidence) - 1e-9)


def _checked(
    novelty: ArrayLike, error: ArrayLike, elements: ArrayLike, groups: ArrayLike
) -> tuple[FloatArray, NDArray[np.str_], FloatArray, IntArray]:
    x, y = np.asarray(novelty, dtype=np.float64).ravel(), np.asarray(error, dtype=np.float64).ravel()
    names = np.asarray(elements, dtype=np.str_).ravel()
    structure = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if not len(x) == len(y) == len(names) == len(structure) or np.isnan(x).any():
        raise InputError(
            f"{len(x)} novelties ({int(np.isnan(x).sum())} NaN), {len(y)} force errors, {len(names)} elements and "
            f"{len(structure)} groups do not belong together.",
            todo="Give one novelty, error, chemical symbol and structure per atom.",
        )
    return x, names, y, structure.astype(np.int64)


def _knots(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Isotonic regression of means over equally many atoms each: single lucky or unlucky atoms make no step."""
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(x, kind="stable")
    per_knot = max(_FEWEST_PER_KNOT, math.isqrt(len(x)))
    parts = np.array_split(order, int(np.clip(len(x) // per_knot, 1, _MOST_KNOTS)))
    centre, mean = np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])
    weight = np.array([len(p) for p in parts], dtype=np.float64)
    fitted = np.asarray(IsotonicRegression(y_min=0.0).fit_transform(centre, mean, sample_weight=weight))
    first = np.concatenate([[True], np.diff(centre) > 0])  # equal novelties were averaged by the regression
    return centre[first], fitted[first]


def _fit(x: FloatArray, y: FloatArray, structure: IntArray, *, power: float, confidence: float) -> ErrorCurve:
    floor = _FLOOR * float(y.mean())

    def curve(which: BoolArray, factor: float) -> ErrorCurve:
        knots = _knots(x[which], y[which])
        groups = len(np.unique(structure[which]))
        return ErrorCurve(*knots, power, float(x[which].max()), factor, floor, int(which.sum()), groups)

    names = np.unique(structure)
    everything = np.ones(len(x), dtype=bool)
    if len(names) < structures_needed(confidence) or floor == 0.0:
        return curve(everything, math.inf)
    # Which fold a structure is in does not depend on its novelty: np.unique sorts by name, the order is as given.
    fold = np.searchsorted(names, structure) % min(_FOLDS, len(names))
    ratio = np.empty(len(x))
    for k in np.unique(fold):
        left_out = fold == k
        ratio[left_out] = y[left_out] / (curve(~left_out, math.inf).expected(x[left_out]) + floor)
    return curve(everything, hierarchical_quantile(ratio, structure, confidence))


def hierarchical_quantile(values: FloatArray, groups: IntArray, confidence: float) -> float:
    """Smallest value that at least ``confidence`` of the weight lies at or below, with 1/(K + 1) per group, shared by
    its members, and 1/(K + 1) at infinity (arXiv:2306.06342, section 3); infinite for too few groups."""
    _, index, count = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1.0 / ((len(count) + 1) * count[index.ravel()])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) >= confidence - 1e-9
    return float(values[order][reached.argmax()]) if reached.any() else math.inf


def _curve_to_json(curve: ErrorCurve) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(curve, name) for name in curve.__dataclass_fields__}
    data |= {"novelty": curve.novelty.tolist(), "error": curve.error.tolist()}
    return {**data, "factor": curve.factor if math.isfinite(curve.factor) else None}


def _curve_from_json(data: Mapping[str, Any]) -> ErrorCurve:
    arrays = {k: np.asarray(data[k], dtype=np.float64) for k in ("novelty", "error")}
    factor = math.inf if data["factor"] is None else float(data["factor"])
    return ErrorCurve(**{**data, **arrays, "factor": factor})
