"""Lattice constants against temperature from dynamics at constant pressure, and expansion coefficients.

As Sharma and Sanvito (npj Comput. Mater. 10, 237, 2024, doi:10.1038/s41524-024-01427-y) do for ZIF-8 and MOF-5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError
from clusterflow.evaluate.equilibrium import at_equilibrium, combined, shape_note
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.physics.timeseries import Series

DISCARD = 0.2
MIN_TEMPERATURES = 3
LENGTHS, ANGLES = ("a", "b", "c"), ("alpha", "beta", "gamma")
_PER_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """One run at constant pressure: ``temperature`` K and its log."""

    temperature: float
    series: Series


@dataclass(frozen=True, slots=True)
class Fit:
    """ln x as a polynomial in T − T₀, lowest power first, with its covariance; ``misfit``: rms distance in errors."""

    coefficients: FloatArray
    covariance: FloatArray
    misfit: float

    def value(self) -> tuple[float, float]:
        """x at T₀, and its error."""
        x = float(np.exp(self.coefficients[0]))
        return x, x * float(np.sqrt(self.covariance[0, 0]))

    def slope(self) -> tuple[float, float]:
        """d ln x/dT at T₀ in 1/K, and its error."""
        return float(self.coefficients[1]), float(np.sqrt(self.covariance[1, 1]))


def cell_parameters(cells: FloatArray) -> dict[str, FloatArray]:
    """Lengths Å and angles ° of cells (n, 3, 3), rows are lattice vectors."""
    lengths = np.linalg.norm(cells, axis=2)
    unit = cells / lengths[:, :, None]
    pairs = {"alpha": (1, 2), "beta": (0, 2), "gamma": (0, 1)}
    angles = {
        name: np.degrees(np.arccos(np.clip(np.einsum("ni,ni->n", unit[:, i], unit[:, j]), -1.0, 1.0)))
        for name, (i, j) in pairs.items()
    }
    return {name: lengths[:, k] for k, name in enumerate(LENGTHS)} | angles


def fit_logarithm(temperatures: FloatArray, values: FloatArray, errors: FloatArray, at: float) -> Fit:
    """ln of values (n,) against temperatures (n,) K, weighted: a line, or a parabola where five or more points tell its
    curvature from zero by two standard errors. Errors grow with the misfit where that is above one."""
    x, y, w = temperatures - at, np.log(values), values / errors
    fit = _polynomial(x, y, w, 1)
    if len(x) >= 5:
        bent = _polynomial(x, y, w, 2)
        if abs(bent.coefficients[2]) > 2.0 * np.sqrt(bent.covariance[2, 2]):
            fit = bent
    return fit


def _polynomial(x: FloatArray, y: FloatArray, w: FloatArray, degree: int) -> Fit:
    scale = float(np.abs(x).max()) or 1.0
    columns = np.vander(x / scale, degree + 1, increasing=True) * w[:, None]
    found, *_ = np.linalg.lstsq(columns, y * w, rcond=None)
    left = len(x) - degree - 1
    squares = float(((columns @ found - y * w) ** 2).sum())
    misfit = float(np.sqrt(squares / left)) if left > 0 else 0.0
    powers = scale ** -np.arange(degree + 1.0)
    covariance = np.linalg.pinv(columns.T @ columns) * max(1.0, misfit) ** 2 * np.outer(powers, powers)
    return Fit(np.asarray(found * powers), np.asarray(covariance), misfit)


def thermal_expansion(
    runs: Sequence[Run],
    *,
    temperature: float,
    pressure: float,
    discard: float = DISCARD,
    failed: Mapping[str, str] | None = None,
) -> PropertyResult:
    """Lattice constants and expansion coefficients at ``temperature`` K and ``pressure`` GPa, and their curves.

    Raises
    ------
    ScienceError
        Fewer than three temperatures are left.
    """
    left_out = dict(failed or {})
    rows: list[tuple[float, int, dict[str, tuple[float, float]]]] = []
    for t, group in groupby(sorted(runs, key=lambda r: r.temperature), key=lambda r: r.temperature):
        series, why = at_equilibrium([r.series for r in group], discard)
        if why:
            left_out[f"{t:g} K"] = why
        if series:
            rows.append((t, len(series), _means(series)))
    if len(rows) < MIN_TEMPERATURES:
        why = "".join(f" {name}: {reason}." for name, reason in left_out.items())
        raise ScienceError(
            f"Thermal expansion needs runs at {MIN_TEMPERATURES} temperatures; {len(rows)} are left.{why}",
            todo="Give more `temperatures:` or a longer `duration:`; take out those at which it is no solid any more.",
        )
    at = np.array([t for t, _, _ in rows])
    fits = {
        name: fit_logarithm(at, _column(rows, name, 0), _column(rows, name, 1), temperature)
        for name in ("volume", *LENGTHS, *ANGLES)
    }
    return PropertyResult(
        kind="thermal_expansion",
        quantities=_quantities(fits, temperature, pressure),
        curves={"points": _point_curve(rows), "fit": _fit_curve(at, fits, temperature)},
        notes=(*_notes(at, fits, temperature, left_out), *shape_note([r.series for r in runs])),
    )


def _means(series: Sequence[Series]) -> dict[str, tuple[float, float]]:
    """(mean, error) of the volume and of every cell parameter; an error of zero (a cell that cannot tilt) is none."""
    parameters = [cell_parameters(s.cell) for s in series]
    found = {"volume": combined([s.volume for s in series])[:2]}
    found |= {name: combined([p[name] for p in parameters])[:2] for name in (*LENGTHS, *ANGLES)}
    return {name: (mean, max(error, 1e-9 * abs(mean))) for name, (mean, error) in found.items()}


def _column(rows: Sequence[tuple[float, int, Mapping[str, tuple[float, float]]]], name: str, part: int) -> FloatArray:
    return np.array([means[name][part] for _, _, means in rows], dtype=np.float64)


def _quantities(fits: Mapping[str, Fit], temperature: float, pressure: float) -> dict[str, Quantity]:
    room = f"at {temperature:g} K, {pressure:g} GPa"
    slope, error = fits["volume"].slope()
    found = {
        "α_V": Quantity(_PER_MILLION * slope, "10⁻⁶/K", _PER_MILLION * error, f"d ln V/dT {room}"),
        "V": Quantity(*_ordered(fits["volume"].value(), "Å³"), room),
    }
    for name in LENGTHS:
        slope, error = fits[name].slope()
        found[name] = Quantity(*_ordered(fits[name].value(), "Å"), room)
        found[f"α_{name}"] = Quantity(_PER_MILLION * slope, "10⁻⁶/K", _PER_MILLION * error, f"d ln {name}/dT {room}")
    for name in ANGLES:
        found[name] = Quantity(*_ordered(fits[name].value(), "°"), room)
    found["misfit"] = Quantity(fits["volume"].misfit, "", None, "rms distance of V from its curve, in its errors")
    return found


def _ordered(value: tuple[float, float], unit: str) -> tuple[float, str, float]:
    return value[0], unit, value[1]


def _point_curve(rows: Sequence[tuple[float, int, Mapping[str, tuple[float, float]]]]) -> Curve:
    columns: dict[str, tuple[float | None, ...]] = {"temperature [K]": tuple(t for t, _, _ in rows)}
    for name, unit in (("volume", "Å³"), *((n, "Å") for n in LENGTHS), *((n, "°") for n in ANGLES)):
        columns[f"{name} [{unit}]"] = tuple(m[name][0] for _, _, m in rows)
        columns[f"error of {name} [{unit}]"] = tuple(m[name][1] for _, _, m in rows)
    columns["runs"] = tuple(float(n) for _, n, _ in rows)
    return Curve(columns)


def _fit_curve(at: FloatArray, fits: Mapping[str, Fit], temperature: float) -> Curve:
    grid = np.linspace(at.min(), at.max(), 101)
    columns: dict[str, tuple[float | None, ...]] = {"temperature [K]": tuple(grid.tolist())}
    for name, unit in (("volume", "Å³"), *((n, "Å") for n in LENGTHS)):
        values = np.exp(np.polynomial.polynomial.polyval(grid - temperature, fits[name].coefficients))
        columns[f"{name} [{unit}]"] = tuple(values.tolist())
    return Curve(columns)


def _notes(at: FloatArray, fits: Mapping[str, Fit], temperature: float, left_out: Mapping[str, str]) -> list[str]:
    notes = [f"Left out: {name} ({why})" for name, why in left_out.items()]
    if not at.min() <= temperature <= at.max():
        notes.append(
            f"Extrapolated: {temperature:g} K is outside the range that was run, {at.min():g} to {at.max():g} K."
        )
    slope, error = fits["volume"].slope()
    if abs(slope) < 2.0 * error:
        notes.append("α_V is not different from zero by two standard errors: longer runs, or a wider range.")
    if fits["volume"].misfit > 2.0:
        notes.append(
            f"The volumes lie {fits['volume'].misfit:.2g} of their errors from the curve (± is widened for that): a "
            "phase transition between, or runs shorter than their slow motions."
        )
    return notes
