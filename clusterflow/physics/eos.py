"""Equations of state E(V) at zero temperature: quartic polynomial, third-order Birch–Murnaghan, Vinet.

Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809; Vinet et al., J. Geophys. Res. 92, 9319 (1987),
doi:10.1029/JB092iB09p09319. The functional forms of the last two are ASE's (`ase.eos`); fitted here with scaled
variables, so that a cell of 10⁵ Å³ is fitted as well as one of 10. K = V d²E/dV² and K' = dK/dP at the minimum.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError

GPA = 160.21766208
"""GPa per eV/Å³."""
FORMS = ("polynomial", "birch_murnaghan", "vinet")
MIN_POINTS = 7
"""Two more than the largest number of parameters (five, of the quartic)."""
_GRID = "Move or widen `range:` so that the lowest energy is well inside, and run again: points that stay are kept."


@dataclass(frozen=True, slots=True)
class EOSFit:
    """One form fitted to points in ``interval`` (low, high) Å³: minimum ``volume`` Å³ and ``energy`` eV, bulk modulus
    ``bulk`` eV/Å³, ``derivative`` K' (no unit), each with the standard error of the fit; ``residual`` rms eV.

    ``polynomial``: coefficients c₀…c₄ of E − energy in (V − volume)/volume for the polynomial; () for the others.
    """

    form: str
    volume: float
    energy: float
    bulk: float
    derivative: float
    volume_error: float
    energy_error: float
    bulk_error: float
    derivative_error: float
    residual: float
    interval: tuple[float, float]
    points: int
    polynomial: tuple[float, ...] = ()

    def energies(self, volumes: FloatArray) -> FloatArray:
        """E(V) in eV."""
        v = np.asarray(volumes, dtype=np.float64)
        if self.form == "polynomial":
            shape = np.polynomial.Polynomial(self.polynomial)
            return np.asarray(self.energy + shape(v / self.volume - 1.0))
        return np.asarray(_shapes()[self.form](v, self.energy, self.bulk, self.derivative, self.volume))

    def pressures(self, volumes: FloatArray) -> FloatArray:
        """P = −dE/dV in eV/Å³, positive when compressed."""
        v = np.asarray(volumes, dtype=np.float64)
        if self.form == "polynomial":
            slope = np.polynomial.Polynomial(self.polynomial).deriv()
            return np.asarray(-slope(v / self.volume - 1.0) / self.volume)
        x = (v / self.volume) ** (1.0 / 3.0)
        if self.form == "vinet":
            # P = 3K (1 − x)/x² exp(3/2 (K' − 1)(1 − x))
            return np.asarray(3.0 * self.bulk * (1.0 - x) / x**2 * np.exp(1.5 * (self.derivative - 1.0) * (1.0 - x)))
        # P = 3K/2 (x⁻⁷ − x⁻⁵)(1 + 3/4 (K' − 4)(x⁻² − 1))
        return np.asarray(1.5 * self.bulk * (x**-7 - x**-5) * (1.0 + 0.75 * (self.derivative - 4.0) * (x**-2 - 1.0)))


@dataclass(frozen=True, slots=True)
class Agreement:
    """The fits on the widest interval around the minimum on which they agree in K (``agreed``), or on the narrowest.

    ``spread``: (largest − smallest)/mean K there. ``history``: (half width/V₀, points, spread) of every interval tried.
    ``narrower``: the fits on the next narrower interval, where enough points are left.
    """

    fits: tuple[EOSFit, ...]
    agreed: bool
    spread: float
    history: tuple[tuple[float, int, float], ...]
    narrower: tuple[EOSFit, ...] = ()

    def mean(self, name: str) -> float:
        """Mean of an attribute over the forms."""
        return float(np.mean([getattr(f, name) for f in self.fits]))

    def uncertainty(self, name: str) -> float:
        """Of `mean`: its largest distance to any form on this and on the next narrower interval, and the largest
        standard error of a fit, in quadrature.

        The range over the forms alone says little: the interval was chosen so that they agree.
        """
        spread = max(abs(getattr(f, name) - self.mean(name)) for f in (*self.fits, *self.narrower))
        statistical = max(getattr(f, f"{name}_error") for f in self.fits)
        return float(math.hypot(spread, statistical))


def _shapes() -> dict[str, Callable[..., FloatArray]]:
    from ase.eos import birchmurnaghan, vinet

    return {"birch_murnaghan": birchmurnaghan, "vinet": vinet}


def require_minimum(volumes: FloatArray, energies: FloatArray) -> None:
    """Whether points can tell where the minimum is.

    Raises
    ------
    ScienceError
        Too few points, or the lowest energy is at (or next to) an end of the grid.
    """
    order = np.argsort(volumes)
    v, e = np.asarray(volumes, dtype=np.float64)[order], np.asarray(energies, dtype=np.float64)[order]
    if len(v) < MIN_POINTS:
        raise ScienceError(
            f"An equation of state needs energies at {MIN_POINTS} volumes or more; there are {len(v)}.",
            todo="Give more `points:`, or see why the relaxations of the others failed.",
        )
    lowest = int(np.argmin(e))
    if not 2 <= lowest <= len(v) - 3:
        end, sign = ("smallest", "smaller") if lowest < 2 else ("largest", "larger")
        raise ScienceError(
            f"Volume grid outside the stable range: of {len(v)} volumes from {v[0]:.6g} to {v[-1]:.6g} Å³ the lowest "
            f"energy is at {v[lowest]:.6g} Å³, {'the' if lowest in (0, len(v) - 1) else 'next to the'} {end}; the "
            f"minimum may lie at {sign} volumes.",
            todo=_GRID,
        )


def fit_eos(volumes: FloatArray, energies: FloatArray, form: str) -> EOSFit:
    """One form fitted to all points (n,) Å³ and eV by least squares.

    Raises
    ------
    ScienceError
        It has no minimum within the volumes, or does not fit at all.
    """
    v, e = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    middle, lowest = float(v[np.argmin(e)]), float(e.min())
    quartic = _quartic(v / middle - 1.0, e - lowest)
    found = _polynomial_fit(v, e, middle, lowest, *quartic)
    return found if form == "polynomial" else _nonlinear_fit(v, e, form, found)


def agreeing_fits(
    volumes: FloatArray, energies: FloatArray, *, tolerance: float = 0.01, min_points: int = MIN_POINTS
) -> Agreement:
    """All forms on the widest interval around V₀ on which their K agree within ``tolerance`` (relative spread): the
    criterion of Dobbelaere et al., arXiv:2504.03881 (2025), SI 9.2.

    The point farthest from V₀ is dropped, so that the interval becomes symmetric but for one point, until the forms
    agree or fewer than ``min_points`` (at least 7) would be left.

    Raises
    ------
    ScienceError
        As `require_minimum`, or no interval can be fitted by every form.
    """
    v, e = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    require_minimum(v, e)
    centre = _centre(v, e)
    distances = np.abs(v - centre)
    halves = sorted({float(d) for d in distances}, reverse=True)
    history: list[tuple[float, int, float]] = []
    best: tuple[EOSFit, ...] = ()
    before: tuple[EOSFit, ...] = ()
    why = ""
    agreed: Agreement | None = None
    for half in halves:
        inside = distances <= half * (1.0 + 1e-9)
        if inside.sum() < (MIN_POINTS if agreed else max(min_points, MIN_POINTS)):
            break
        try:
            fits = tuple(fit_eos(v[inside], e[inside], form) for form in FORMS)
        except ScienceError as error:
            why = error.what
            continue
        if agreed is not None:
            return replace(agreed, narrower=fits)
        bulks = [f.bulk for f in fits]
        spread = (max(bulks) - min(bulks)) / abs(float(np.mean(bulks)))
        history.append((half / centre, int(inside.sum()), spread))
        best, before = fits, best
        if spread <= tolerance:
            agreed = Agreement(fits, True, spread, tuple(history))
    if agreed is not None:
        return agreed
    if not best:
        raise ScienceError(
            f"No interval of {max(min_points, MIN_POINTS)} or more volumes around the minimum at {centre:.6g} Å³ can "
            f"be fitted by all equations of state{': ' + why if why else ''}.",
            where=f"{len(v)} volumes from {v.min():.6g} to {v.max():.6g} Å³",
            todo="Give more `points:`, and a `range:` whose middle is the minimum; look at the curve for kinks.",
        )
    # Where they never agree there is none narrower: the one before it stands in.
    return Agreement(best, False, history[-1][2], tuple(history), before)


def _centre(v: FloatArray, e: FloatArray) -> float:
    """Volume of the minimum, from the five to seven points around the lowest."""
    order = np.argsort(v)
    v, e = v[order], e[order]
    lowest = int(np.argmin(e))
    near = slice(max(lowest - 3, 0), lowest + 4)
    x = v[near] / v[lowest] - 1.0
    c2, c1, _ = np.polyfit(x, e[near], 2)
    guess = -c1 / (2.0 * c2) if c2 > 0.0 else 0.0
    return float(v[lowest] * (1.0 + np.clip(guess, x[0], x[-1])))


def _quartic(x: FloatArray, e: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients c₀…c₄ of E(x) and their covariance."""
    scale = float(np.abs(x).max())
    columns = np.vander(x / scale, 5, increasing=True)
    found, _, rank, _ = np.linalg.lstsq(columns, e, rcond=None)
    powers = scale ** -np.arange(5.0)
    left = max(len(x) - int(rank), 1)
    variance = float(((columns @ found - e) ** 2).sum()) / left
    covariance = variance * np.linalg.pinv(columns.T @ columns) * np.outer(powers, powers)
    return np.asarray(found * powers), np.asarray(covariance)


def _polynomial_fit(
    v: FloatArray, e: FloatArray, middle: float, lowest: float, coefficients: FloatArray, covariance: FloatArray
) -> EOSFit:
    p = np.polynomial.Polynomial(coefficients)
    x = v / middle - 1.0
    roots = p.deriv().roots()
    minima = [
        float(r.real) for r in roots if abs(r.imag) < 1e-9 and x.min() <= r.real <= x.max() and p.deriv(2)(r.real) > 0.0
    ]
    if not minima:
        raise ScienceError(f"The polynomial has no minimum between {v.min():.6g} and {v.max():.6g} Å³.", todo=_GRID)
    at = min(minima, key=lambda r: float(p(r)))
    volume = middle * (1.0 + at)
    second, third = float(p.deriv(2)(at)) / middle**2, float(p.deriv(3)(at)) / middle**3
    # K' = dK/dP = −(E'' + V E''')/E''
    around = p(np.polynomial.Polynomial([at, volume / middle]))  # in (V − V₀)/V₀
    constant = float(around.coef[0])
    return EOSFit(
        form="polynomial",
        volume=volume,
        energy=lowest + constant,
        bulk=volume * second,
        derivative=-1.0 - volume * third / second,
        **_polynomial_errors(coefficients, covariance, at, middle),
        residual=float(np.sqrt(np.mean((p(x) - (e - lowest)) ** 2))),
        interval=(float(v.min()), float(v.max())),
        points=len(v),
        polynomial=(0.0, *(float(c) for c in around.coef[1:])),
    )


def _polynomial_errors(c: FloatArray, covariance: FloatArray, at: float, middle: float) -> dict[str, float]:
    """Standard errors of what follows from the coefficients (5,) at their minimum ``at``, to first order."""
    powers = [at**k if k >= 0 else 0.0 for k in range(-3, 5)]
    rows = [[math.perm(k, d) * powers[k - d + 3] if k >= d else 0.0 for k in range(5)] for d in range(5)]
    values, slopes = [float(np.dot(row, c)) for row in rows], [np.array(row) for row in rows]
    p2, p3, p4 = values[2:]
    moved = -slopes[1] / p2  # of the minimum itself
    volume = middle * (1.0 + at)
    second, third = slopes[2] + p3 * moved, slopes[3] + p4 * moved
    gradients = {
        "volume_error": middle * moved,
        "energy_error": slopes[0],
        "bulk_error": (middle * moved * p2 + volume * second) / middle**2,
        "derivative_error": (middle * moved * p3 + volume * third - volume * p3 * second / p2) / (p2 * middle),
    }
    return {name: math.sqrt(max(float(g @ covariance @ g), 0.0)) for name, g in gradients.items()}


def _nonlinear_fit(v: FloatArray, e: FloatArray, form: str, guess: EOSFit) -> EOSFit:
    from scipy.optimize import OptimizeWarning, curve_fit

    shape = _shapes()[form]
    # Variables of order one: energies in K₀V₀ of the guess, volumes in its V₀.
    unit = guess.bulk * guess.volume
    first = (0.0, 1.0, guess.derivative if 1.2 < guess.derivative < 20.0 else 4.0, 1.0)
    y = (e - guess.energy) / unit
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            found, covariance = curve_fit(
                shape, v / guess.volume, y, p0=first, maxfev=20_000, ftol=1e-14, xtol=1e-14, gtol=1e-14
            )
    except (RuntimeError, ValueError) as problem:
        raise ScienceError(f"The {form} equation of state does not fit: {problem}", todo=_GRID) from problem
    volume = float(found[3]) * guess.volume
    bulk = float(found[1]) * unit / guess.volume
    if not (v.min() <= volume <= v.max()) or bulk <= 0.0 or not np.isfinite(found).all():
        raise ScienceError(
            f"The {form} equation of state has no minimum between {v.min():.6g} and {v.max():.6g} Å³.", todo=_GRID
        )
    errors = np.sqrt(np.diag(covariance)) if np.isfinite(covariance).all() else np.full(4, math.inf)
    return EOSFit(
        form=form,
        volume=volume,
        energy=guess.energy + float(found[0]) * unit,
        bulk=bulk,
        derivative=float(found[2]),
        volume_error=float(errors[3]) * guess.volume,
        energy_error=float(errors[0]) * unit,
        bulk_error=float(errors[1]) * unit / guess.volume,
        derivative_error=float(errors[2]),
        residual=float(np.sqrt(np.mean((shape(v / guess.volume, *found) - y) ** 2))) * unit,
        interval=(float(v.min()), float(v.max())),
        points=len(v),
    )
