"""From cheap indications of a force error to a bound that holds.

The force error of an atom in a fragment is not known before its parent is computed, but some things that go with it are
(`clusterflow.extract.indicators`). Where a sample of fragments has been confirmed, by labels of larger fragments or of
the parent, a log-linear model is fitted to what was seen,

    ln(e + f) = b0 + sum_i b_i x_i + u(environment) + w(environment) (x_1 - c),

with e the error of an atom in eV/Å, x its indicators, u and w a shrunken offset and slope per kind of environment, c
the mean of x_1, and f a floor below which nobody cares. The slopes are for atoms that no size of fragment gets quite
right, while the potential sees no difference any more. The fit is a ridge regression towards a prior, so that it is
defined from the first confirmation on.

A larger fragment is not the parent: what it leaves out is missing in both. So differences d are multiplied by 1 + r
before the final fit, where r ≤ 1 is the ratio of the errors that a first fit estimates for the larger fragment and for
the smaller one. In water, where differences alone are too small by a third, what the larger fragment adds and what it
lacks push at right angles (docs/studies/certificates.md): then the error against the parent is d/√(1 − r²), which
d(1 + r) covers up to r = 0.84. Were they parallel, a slow tail in one direction, it would be d/(1 − r): not covered.

It estimates; it does not bound. The bound multiplies e + f by a factor: the ⌈(n + 1)(1 − α)⌉-th smallest of the largest
residuals per fragment, each fragment judged by the model fitted without it. Atoms that are not required but would join
the core get a bound that is `JOINING` times wider, and their residuals count that much less: there are many of them,
and the luckiest estimate of many is the most wrong. This is the jackknife with the rank of conformal prediction. For
exchangeable fragments and a fit that hardly changes when one is left out, all core atoms of a new fragment stay below
their bounds at once with confidence 1 − α. Without the second condition nothing is guaranteed (Barber et al., Ann.
Stat. 49, 486 (2021), doi:10.1214/20-AOS1965); tests/extract/test_calibration.py checks the coverage in simulations. An
environment of which nothing has been confirmed has no bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.errors import InputError

FLOOR = 0.01
"""eV/Å added to every error before the logarithm: differences far below it do not matter and only add scatter."""
JOINING = 2.0
"""How much wider the bound of an atom is that a fragment was not cut for: a choice, which trades a larger core against
a tighter bound of the required atoms."""
OFFSET, SLOPE = 0.5, 0.3
"""How far ln(error) of an environment, and its slope in the first indicator, may easily be from those of the others."""
NOISE = 0.7
"""Scatter of ln(error) around the model that the ridge assumes: a factor of two."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """One column x_i: its name, and where the ridge pulls its coefficient (``prior`` ± ``spread``)."""

    name: str
    prior: float
    spread: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of one fragment: ``indicators`` (k, m) of k of its atoms, their ``environments`` (k,), the force
    ``errors`` (k,) in eV/Å that a larger calculation showed, and which of the atoms were ``required`` (k,) bool to be
    right; ``fragment`` names it. ``larger`` (k, m): indicators of the same atoms in the larger fragment, None if the
    parent itself was calculated."""

    fragment: str
    indicators: FloatArray
    environments: tuple[str, ...]
    errors: FloatArray
    required: BoolArray
    larger: FloatArray | None = None


@dataclass(frozen=True)
class ErrorModel:
    """A calibrated estimate of force errors, with its bound.

    ``coefficients`` (1 + m,) intercept first; ``offsets`` and ``slopes`` (in the first indicator, from ``centre`` on)
    per environment; ``factor``: the bound of a required atom over its estimate (of e + floor), infinite while there are
    too few confirmations for ``confidence``; ``attained``: the confidence that the largest residual seen would give;
    ``n``: confirmed fragments; ``scatter``: standard deviation of the residuals of ln(e + floor), left out one fragment
    at a time.
    """

    columns: tuple[Indicator, ...]
    coefficients: FloatArray
    offsets: Mapping[str, float]
    slopes: Mapping[str, float]
    centre: float
    factor: float
    confidence: float
    n: int
    scatter: float
    floor: float = FLOOR

    @property
    def attained(self) -> float:
        """Largest confidence that so many confirmations can give: n / (n + 1)."""
        return self.n / (self.n + 1)

    def estimate(self, indicators: FloatArray, environments: Sequence[str]) -> FloatArray:
        """(k,) expected (median) force error in eV/Å, from indicators (k, m)."""
        return np.asarray(np.maximum(np.exp(self._log(indicators, environments)) - self.floor, 0.0))

    def bound(self, indicators: FloatArray, environments: Sequence[str], required: BoolArray) -> FloatArray:
        """(k,) force errors in eV/Å that all ``required`` (k,) bool atoms of a fragment, and all others that are
        believed, stay below with the stated confidence; infinite for an environment that no confirmation has seen."""
        if not math.isfinite(self.factor):
            return np.full(len(indicators), np.inf)
        factor = np.where(required, self.factor, JOINING * self.factor)
        bound = np.maximum(factor * np.exp(self._log(indicators, environments)) - self.floor, 0.0)
        return np.where([e in self.offsets for e in environments], bound, np.inf)

    def _log(self, indicators: FloatArray, environments: Sequence[str]) -> FloatArray:
        x = np.asarray(indicators, dtype=np.float64).reshape(len(environments), -1)
        if x.shape[1] != len(self.columns):
            raise InputError(
                f"The error model was fitted on {len(self.columns)} indicators, not {x.shape[1]}.",
                todo="Calibrate again with the indicators in use.",
            )
        offset = np.array([self.offsets.get(e, 0.0) for e in environments])
        slope = np.array([self.slopes.get(e, 0.0) for e in environments])
        return np.asarray(self.coefficients[0] + x @ self.coefficients[1:] + offset + slope * (x[:, 0] - self.centre))

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal model (infinity as null)."""
        return {
            "columns": [[c.name, c.prior, c.spread] for c in self.columns],
            "coefficients": [float(c) for c in self.coefficients],
            "offsets": dict(sorted(self.offsets.items())),
            "slopes": dict(sorted(self.slopes.items())),
            "centre": self.centre,
            "factor": self.factor if math.isfinite(self.factor) else None,
            "confidence": self.confidence,
            "n": self.n,
            "scatter": self.scatter,
            "floor": self.floor,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            columns=tuple(Indicator(str(n), float(p), float(s)) for n, p, s in data["columns"]),
            coefficients=np.array(data["coefficients"], dtype=np.float64),
            offsets={str(k): float(v) for k, v in data["offsets"].items()},
            slopes={str(k): float(v) for k, v in data["slopes"].items()},
            centre=float(data["centre"]),
            factor=math.inf if data["factor"] is None else float(data["factor"]),
            confidence=float(data["confidence"]),
            n=int(data["n"]),
            scatter=float(data["scatter"]),
            floor=float(data["floor"]),
        )


def calibrate(
    columns: Sequence[Indicator],
    confirmations: Sequence[Confirmation],
    *,
    tolerance: float,
    confidence: float = 0.95,
    unconfirmed: int = 0,
    floor: float = FLOOR,
) -> ErrorModel:
    """Fits the error model to confirmed fragments and finds the factor that makes it a bound.

    All atoms serve the fit. The bound is judged by those it will be believed for: the required ones, and those whose
    estimate meets the ``tolerance`` (eV/Å), from which further core atoms are taken. With n confirmations the bound is
    finite from ``confidence`` ≤ n / (n + 1) on (19 fragments for 95 %). ``unconfirmed`` fragments, whose larger label
    was asked for and failed, count as errors of any size.

    Raises
    ------
    InputError
        ``confidence``, ``floor`` or ``tolerance`` out of range, or confirmations whose arrays do not fit together.
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"A confidence of {confidence:g} makes no sense.", todo="Give a number below 1, such as 0.95.")
    if not floor > 0.0 or not tolerance > 0.0:
        raise InputError(f"Error floor and tolerance must be positive, not {floor:g} and {tolerance:g} eV/Å.")
    for c in confirmations:
        _check(c, len(columns))
    names = sorted({e for c in confirmations for e in c.environments})
    place = {name: k for k, name in enumerate(names)}
    centre = float(np.concatenate([c.indicators[:, 0] for c in confirmations]).mean()) if confirmations else 0.0
    rows = [_design(c.indicators, c.environments, place, centre) for c in confirmations]
    prior = np.concatenate(([0.0], [c.prior for c in columns], np.zeros(2 * len(names))))
    own = (np.full(len(names), OFFSET), np.full(len(names), SLOPE))
    spread = np.concatenate(([1.0], [c.spread for c in columns], *own))

    first_fit = _fit(rows, [np.log(c.errors + floor) for c in confirmations], prior, spread)
    values = []
    for c in confirmations:
        errors = c.errors
        if c.larger is not None:
            both = [_design(x, c.environments, place, centre) @ first_fit.beta for x in (c.indicators, c.larger)]
            errors = errors * (1.0 + np.exp(np.minimum(both[1] - both[0], 0.0)))
        values.append(np.log(errors + floor))
    beta, gram, moment, parts = _fit(rows, values, prior, spread)
    worst, residuals = [], []
    for c, (g, m), x, y in zip(confirmations, parts, rows, values, strict=True):
        expected = x @ np.linalg.solve(gram - g, moment - m)
        believed = c.required | (expected <= math.log(tolerance + floor))
        wider = np.where(c.required, 0.0, math.log(JOINING))
        worst.append(float((y - expected - wider)[believed].max(initial=-math.inf)))
        residuals.append(y - expected)
    first = 1 + len(columns)
    return ErrorModel(
        columns=tuple(columns),
        coefficients=beta[:first],
        offsets={name: float(beta[first + k]) for name, k in place.items()},
        slopes={name: float(beta[first + len(place) + k]) for name, k in place.items()},
        centre=centre,
        factor=math.exp(conformal_quantile([*worst, *([math.inf] * unconfirmed)], confidence)),
        confidence=confidence,
        n=len(confirmations),
        scatter=float(np.concatenate(residuals).std()) if residuals else NOISE,
        floor=floor,
    )


@dataclass(frozen=True)
class Calibration:
    """An error model with what it holds for: the ``level_of_theory`` of its labels, the ``tolerance`` (eV/Å) that core
    atoms were believed by, and the ``potential`` (its model_id, "" without one) of the indicators."""

    model: ErrorModel
    level_of_theory: str
    tolerance: float
    potential: str

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record."""
        return {
            "level_of_theory": self.level_of_theory,
            "tolerance": self.tolerance,
            "potential": self.potential,
            "error_model": self.model.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            model=ErrorModel.from_json(data["error_model"]),
            level_of_theory=str(data["level_of_theory"]),
            tolerance=float(data["tolerance"]),
            potential=str(data["potential"]),
        )


def conformal_quantile(scores: Sequence[float], confidence: float) -> float:
    """The ⌈(n + 1) · confidence⌉-th smallest of n scores; infinite if there are not that many."""
    rank = math.ceil((len(scores) + 1) * confidence - 1e-9)
    return float(np.sort(np.asarray(scores, dtype=np.float64))[rank - 1]) if rank <= len(scores) else math.inf


class _Fit(NamedTuple):
    """A ridge regression: coefficients, and the sums that leaving a fragment out subtracts its ``parts`` from."""

    beta: FloatArray
    gram: FloatArray
    moment: FloatArray
    parts: list[tuple[FloatArray, FloatArray]]


def _fit(rows: Sequence[FloatArray], values: Sequence[FloatArray], prior: FloatArray, spread: FloatArray) -> _Fit:
    gram: FloatArray = np.diag(1.0 / spread**2)
    moment = prior / spread**2
    parts = []
    for x, y in zip(rows, values, strict=True):
        # Atoms of one fragment share their error in part: k of them count as √k independent ones.
        weight = 1.0 / (NOISE**2 * math.sqrt(len(x)))
        parts.append((weight * x.T @ x, weight * x.T @ y))
    for g, m in parts:
        gram, moment = gram + g, moment + m
    beta = np.asarray(np.linalg.solve(gram, moment), dtype=np.float64)
    return _Fit(beta, gram, moment, parts)


def _design(indicators: FloatArray, environments: Sequence[str], place: Mapping[str, int], centre: float) -> FloatArray:
    k, m = indicators.shape
    x = np.zeros((k, 1 + m + 2 * len(place)))
    x[:, 0] = 1.0
    x[:, 1 : 1 + m] = indicators
    atoms, kinds = np.arange(k), np.array([place[e] for e in environments])
    x[atoms, 1 + m + kinds] = 1.0
    x[atoms, 1 + m + len(place) + kinds] = indicators[:, 0] - centre
    return x


def _check(c: Confirmation, m: int) -> None:
    k = len(c.errors)
    if c.indicators.shape != (k, m) or len(c.environments) != k or c.required.shape != (k,) or k == 0:
        raise InputError(
            f"Confirmation '{c.fragment}' has indicators of shape {c.indicators.shape}, {len(c.environments)} "
            f"environments, {c.required.shape} marks and {k} errors; ({k}, {m}), {k}, ({k},) and at least one atom are "
            "needed."
        )
    if c.larger is not None and (c.larger.shape != (k, m) or not np.isfinite(c.larger).all()):
        raise InputError(f"Confirmation '{c.fragment}' has no indicators of the larger fragment for each of its atoms.")
    if not (np.isfinite(c.indicators).all() and np.isfinite(c.errors).all() and (c.errors >= 0).all()):
        raise InputError(f"Confirmation '{c.fragment}' holds numbers that are not finite, or negative errors.")
