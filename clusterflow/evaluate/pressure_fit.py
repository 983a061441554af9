"""P(V) through noisy points by a Gaussian process, and what follows from it: V₀, K = −V dP/dV and the maximum of P.

Dobbelaere et al., arXiv:2504.03881 (2025), SI 9.1, who name the method (Gaussian process, scikit-learn) and no kernel.
Here: a straight line, weighted by the errors, plus a process with a radial basis function, whose amplitude and length
follow from the points (largest marginal likelihood). Errors of all results are those of curves drawn from the process
and, because the length is not known exactly, of what half and twice of it change.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError

MIN_POINTS = 5
_GRID, _DRAWS = 241, 300
_SCALES = tuple(float(s) for s in np.geomspace(1.4, 32.0, 7))
_LEAST_ERROR = 1e-4
"""Of a pressure, relative to the range of all: the process needs some noise to be solvable."""


@dataclass(frozen=True, slots=True)
class PressureFit:
    """``volume`` (g,) Å³ ascending, ``pressure`` (g,) GPa with ``error`` (g,); ``bulk`` GPa at ``v0`` Å³ where P = 0;
    ``highest`` GPa: the maximum below V₀ at ``v_highest``, ``reached`` if P falls again on its far side. Each with its
    standard error. ``misfit``: by how much the errors of the points had to be
    multiplied to be likely, 1 where they need not (`_Process.noise_scale`)."""

    volume: FloatArray
    pressure: FloatArray
    error: FloatArray
    v0: float
    v0_error: float
    bulk: float
    bulk_error: float
    highest: float
    highest_error: float
    v_highest: float
    reached: bool
    misfit: float


def fit_pressure(
    volumes: FloatArray, pressures: FloatArray, volume_errors: FloatArray, pressure_errors: FloatArray
) -> PressureFit:
    """Fits points (n,) Å³ and GPa with standard errors of both; those of V count by the slope of the curve.

    Raises
    ------
    ScienceError
        Too few points, or pressures that do not change sign, so that there is no V₀ among them.
    """
    order = np.argsort(volumes)
    v, p = np.asarray(volumes, dtype=np.float64)[order], np.asarray(pressures, dtype=np.float64)[order]
    v_error, p_error = np.asarray(volume_errors)[order], np.asarray(pressure_errors)[order]
    _require_zero(v, p, v_error, p_error)
    floor = _LEAST_ERROR * float(np.ptp(p))
    slopes = np.full(len(v), _slope(v, p))
    grid = np.linspace(v[0], v[-1], _GRID)
    misfit = 1.0
    for step in range(5):  # the errors of V need the slope, which follows from the fit
        error = misfit * np.maximum(np.hypot(p_error, slopes * v_error), floor)
        found = _Process(v, p, error, restarts=2 if step > 1 else 0)
        curve = found.mean(grid)
        slopes = np.interp(v, grid, np.gradient(curve, grid))
        if step == 2:
            misfit = found.noise_scale()
            if misfit == 1.0:
                break
    covariance = found.covariance(grid)
    draws = _draws(curve, covariance)
    v0 = _zero(grid, curve, near=_first_zero(grid, curve))
    zero = [_zero(grid, c, near=v0) for c in draws]
    bulks = [_bulk(grid, c, z) for c, z in zip(draws, zero, strict=True)]
    k = _top(grid, curve, v0)
    bulk, highest = _bulk(grid, curve, v0), float(curve[k])
    tops = [c[_top(grid, c, v0)] for c in draws]
    others = [found.with_length(factor).mean(grid) for factor in (0.5, 2.0)]
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    low = int(np.argmin(curve[: k + 1]))  # beyond the maximum
    return PressureFit(
        volume=grid,
        pressure=curve,
        error=deviation,
        v0=v0,
        v0_error=_with_others(float(np.std(zero)), v0, [_zero(grid, c, near=v0) for c in others]),
        bulk=bulk,
        bulk_error=_with_others(float(np.std(bulks)), bulk, [_bulk(grid, c, _zero(grid, c, near=v0)) for c in others]),
        highest=highest,
        highest_error=_with_others(float(np.std(tops)), highest, [c[_top(grid, c, v0)] for c in others]),
        v_highest=float(grid[k]),
        reached=bool(curve[k] - curve[low] > 2.0 * np.hypot(deviation[low], deviation[k])),
        misfit=misfit,
    )


def _with_others(statistical: float, value: float, others: Sequence[float]) -> float:
    return float(np.hypot(statistical, max(abs(o - value) for o in others)))


def _require_zero(v: FloatArray, p: FloatArray, v_error: FloatArray, p_error: FloatArray) -> None:
    """Raises ScienceError unless the points can tell where P = 0."""
    if len(v) < MIN_POINTS:
        raise ScienceError(
            f"A pressure–volume curve needs {MIN_POINTS} points or more; there are {len(v)}.",
            todo="Give more `pressures:` or `volumes:`, or see why the other runs failed.",
        )
    error = np.hypot(p_error, _slope(v, p) * v_error)
    if (p - 2.0 * error).min() > 0.0 or (p + 2.0 * error).max() < 0.0:
        side, remedy = ("above", "negative") if p.min() > 0.0 else ("below", "positive")
        raise ScienceError(
            f"Outside the stable range: all {len(v)} pressures are {side} zero, {p.min():.4g} to {p.max():.4g} GPa at "
            f"{v[0]:.6g} to {v[-1]:.6g} Å³, so V₀ is not among them.",
            todo=f"Add {remedy} `pressures:` (a range that includes 0), and run again: points that stay are kept.",
        )


def _slope(v: FloatArray, p: FloatArray) -> float:
    return float(np.polyfit(v - v.mean(), p, 1)[0])


def _x(volumes: FloatArray, v: FloatArray) -> FloatArray:
    return np.asarray(((volumes - v[0]) / (v[-1] - v[0]))[:, None])


class _Process:
    """The line and the process through points (n,), and the curve that they give."""

    def __init__(self, v: FloatArray, p: FloatArray, error: FloatArray, kernel: Any = None, restarts: int = 0) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        self._data = v, p, error
        self._line = np.polyfit(v - v[0], p, 1, w=1.0 / error)
        rest = p - np.polyval(self._line, v - v[0])
        self._scale = float(max(rest.std(), error.min()))
        self._regressor = GaussianProcessRegressor(
            kernel or _kernel(v),
            alpha=(error / self._scale) ** 2,
            optimizer=None if kernel else "fmin_l_bfgs_b",
            n_restarts_optimizer=restarts,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound: a straight line is one
            self._regressor.fit(_x(v, v), rest / self._scale)

    def with_length(self, factor: float) -> _Process:
        """The same with another length."""
        from sklearn.base import clone

        kernel = clone(self._regressor.kernel_)
        return _Process(*self._data, kernel.set_params(k2__k2__length_scale=factor * kernel.k2.k2.length_scale))

    def likelihood(self) -> float:
        """Logarithm of the density of the points, in units of 1/GPaⁿ, with the best kernel."""
        return float(self._regressor.log_marginal_likelihood_value_ - len(self._data[0]) * np.log(self._scale))

    def noise_scale(self) -> float:
        """The factor on all errors with which the points are most likely; 1 if that is not significant.

        The distance of points from the curve would not tell: where errors are too small, the process follows the
        noise. Significant: more likely by two units of the logarithm (two standard deviations of one parameter).
        """
        v, p, error = self._data
        likely = {1.0: self.likelihood()} | {s: _Process(v, p, s * error).likelihood() for s in _SCALES}
        best = max(likely, key=likely.__getitem__)
        return best if likely[best] - likely[1.0] > 2.0 else 1.0

    def mean(self, volumes: FloatArray) -> FloatArray:
        """P in GPa."""
        v = self._data[0]
        rest = self._regressor.predict(_x(volumes, v))
        return np.asarray(np.polyval(self._line, volumes - v[0]) + self._scale * rest)

    def covariance(self, volumes: FloatArray) -> FloatArray:
        """Of P, GPa²."""
        _, found = self._regressor.predict(_x(volumes, self._data[0]), return_cov=True)
        return np.asarray(found * self._scale**2)


def _kernel(v: FloatArray) -> Any:
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    # No shorter than two typical gaps: less is noise of the points.
    gaps = np.diff(np.unique(v)) / (v[-1] - v[0])
    shortest = float(np.clip(2.0 * np.median(gaps), 0.05, 0.5))
    # The fixed part says that the line is known no better than the points tell it.
    unsure = ConstantKernel(100.0, "fixed") * DotProduct(1.0, "fixed")
    return unsure + ConstantKernel(1.0, (1e-3, 1e3)) * RBF(max(0.5, shortest), (shortest, 10.0))


def _draws(curve: FloatArray, covariance: FloatArray) -> FloatArray:
    """(draws, g) curves of the process."""
    values, vectors = np.linalg.eigh(covariance)
    keep = values > 1e-10 * values.max()
    noise = np.random.default_rng(0).standard_normal((_DRAWS, int(keep.sum())))
    return np.asarray(curve + noise @ (vectors[:, keep] * np.sqrt(values[keep])).T)


def _first_zero(grid: FloatArray, curve: FloatArray) -> float:
    """Where P falls through zero at the largest volume at which it does, and otherwise where it is nearest to zero."""
    falls = np.flatnonzero((curve[:-1] > 0.0) & (curve[1:] <= 0.0))
    return float(grid[falls[-1]]) if len(falls) else float(grid[np.argmin(np.abs(curve))])


def _zero(grid: FloatArray, curve: FloatArray, near: float) -> float:
    """The zero nearest to a volume, by linear interpolation or, beyond the ends, extrapolation."""
    falls = np.flatnonzero((curve[:-1] > 0.0) & (curve[1:] <= 0.0))
    beyond = len(grid) - 2 if curve[-1] > 0.0 else 0
    k = int(falls[np.argmin(np.abs(grid[falls] - near))]) if len(falls) else beyond
    return float(grid[k] - curve[k] * (grid[k + 1] - grid[k]) / (curve[k + 1] - curve[k]))


def _bulk(grid: FloatArray, curve: FloatArray, at: float) -> float:
    return float(-at * np.interp(at, grid, np.gradient(curve, grid)))


def _top(grid: FloatArray, curve: FloatArray, v0: float) -> int:
    """Index of the largest pressure on the compressed side."""
    return int(np.argmax(np.where(grid <= max(v0, grid[0]), curve, -np.inf)))
