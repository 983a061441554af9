"""Pressure against volume at a temperature, from dynamics: Dobbelaere et al., arXiv:2504.03881 (2025), SI 9.1.

Runs at constant pressure tell ⟨V⟩(P), runs at constant volume with a free shape ⟨P_int⟩(V), where a barostat would let
the crystal collapse. Runs at the same condition are combined; a Gaussian process goes through the points. The dynamics
are `clusterflow.explore.sampling`; this module only reads what they logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import numpy as np

from clusterflow.errors import ScienceError
from clusterflow.evaluate.equilibrium import at_equilibrium, combined, shape_note
from clusterflow.evaluate.pressure_fit import PressureFit, fit_pressure
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.physics.timeseries import Series
from clusterflow.units import BOLTZMANN_EV, EV_PER_A3_IN_GPA

DISCARDS = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of every run that are left out, one after the other: the first gives the result, all of them whether it is
converged. The paper uses 80 to 40 % of its data."""
_AROUND = 3
"""Conditions at the place in question that get more runs."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: ``kind`` of its condition, its ``value`` (GPa, or volume relative to the input's), and its log."""

    kind: Literal["pressure", "volume"]
    value: float
    series: Series

    @property
    def condition(self) -> str:
        """As the plan and the notes name it."""
        return condition(self.kind, self.value)


def condition(kind: str, value: float) -> str:
    """A condition in words, equal for equal conditions."""
    return f"{value:.6g} GPa" if kind == "pressure" else f"{value:.6g} × V"


@dataclass(frozen=True, slots=True)
class Point:
    """A condition: mean ``volume`` Å³ and ``pressure`` GPa, one of them exact (error 0); ``runs`` combined."""

    condition: str
    kind: str
    volume: float
    volume_error: float
    pressure: float
    pressure_error: float
    runs: int
    variance: float = 0.0


@dataclass(frozen=True, slots=True)
class Convergence:
    """K and P_max (NaN: no maximum) GPa with each share discarded; ``spread`` of both (largest − smallest)."""

    discards: tuple[float, ...]
    bulks: tuple[float, ...]
    tops: tuple[float, ...]
    volumes: tuple[float, ...] = field(default=())

    def spread(self, name: Literal["bulks", "tops"]) -> float:
        """Largest minus smallest; infinite if a maximum comes and goes, 0 if there is none anywhere."""
        values = np.array(getattr(self, name))
        if np.isnan(values).all():
            return 0.0
        return float(np.ptp(values)) if np.isfinite(values).all() else float("inf")


def pressure_volume(
    runs: Sequence[Run],
    *,
    temperature: float,
    discards: Sequence[float] = DISCARDS,
    tolerance_bulk: float = 1.0,
    tolerance_top: float = 0.015,
    failed: Mapping[str, str] | None = None,
) -> PropertyResult:
    """V₀, K and P_max with errors, the points and the curve; tolerances in GPa.

    ``wanted`` of the result: conditions of which more runs would help; empty if it is converged. ``failed``: conditions
    with runs that did not begin, and why.

    Raises
    ------
    ScienceError
        Too few conditions are left, or the pressures do not bracket zero.
    """
    failed = dict(failed or {})
    left_out: dict[str, str] = {}
    points = _points(runs, discards[0], left_out)
    try:
        fit = _fit(points)
    except ScienceError as error:
        gone = {**failed, **left_out}
        if not gone:
            raise
        first, why = next(iter(gone.items()))
        raise ScienceError(
            f"{error.what} {len(gone)} conditions gave none, first {first}: {why}.", where=error.where, todo=error.todo
        ) from error
    convergence = _convergence(runs, discards, fit)
    converged = convergence.spread("bulks") <= tolerance_bulk, convergence.spread("tops") <= tolerance_top
    return PropertyResult(
        kind="pressure_volume",
        quantities=_quantities(points, fit, convergence, temperature),
        curves={"points": _point_curve(points), "fit": _fit_curve(fit), "convergence": _convergence_curve(convergence)},
        notes=(
            *_notes(fit, convergence, failed, left_out, tolerances=(tolerance_bulk, tolerance_top)),
            *shape_note([r.series for r in runs]),
        ),
        wanted=_wanted(points, fit, *converged),
    )


def _points(runs: Sequence[Run], discard: float, left_out: dict[str, str]) -> list[Point]:
    """Points in order of their conditions; conditions that gave none go into ``left_out`` with the reason."""
    found = []
    ordered = sorted(runs, key=lambda r: (r.kind, r.value))
    for name, group in groupby(ordered, key=lambda r: r.condition):
        ours = list(group)
        kind: Literal["volume", "pressure"] = "volume" if ours[0].kind == "pressure" else "pressure"
        settled, why = at_equilibrium([r.series for r in ours], discard, fixed_volume=kind == "pressure")
        if why:
            left_out[name] = why
        if not settled:
            continue
        mean, error, variance = combined([getattr(s, kind) for s in settled])
        if kind == "volume":
            found.append(Point(name, "pressure", mean, error, ours[0].value, 0.0, len(settled), variance))
        else:
            volume = float(np.mean([s.volume.mean() for s in settled]))
            found.append(Point(name, "volume", volume, 0.0, mean, error, len(settled)))
    return found


def _fit(points: Sequence[Point]) -> PressureFit:
    columns = [
        np.array([getattr(p, name) for p in points])
        for name in ("volume", "pressure", "volume_error", "pressure_error")
    ]
    return fit_pressure(*columns)


def _convergence(runs: Sequence[Run], discards: Sequence[float], first: PressureFit) -> Convergence:
    """Fits with ever more discarded; a share with which nothing can be fitted gives NaN."""
    bulks, tops, volumes = [first.bulk], [first.highest if first.reached else np.nan], [first.v0]
    for share in discards[1:]:
        try:
            fit = _fit(_points(runs, share, {}))
        except ScienceError:
            bulks.append(np.nan)
            tops.append(np.nan)
            volumes.append(np.nan)
            continue
        bulks.append(fit.bulk)
        tops.append(fit.highest if fit.reached else np.nan)
        volumes.append(fit.v0)
    return Convergence(tuple(discards), tuple(bulks), tuple(tops), tuple(volumes))


def _quantities(
    points: Sequence[Point], fit: PressureFit, convergence: Convergence, temperature: float
) -> dict[str, Quantity]:
    def total(statistical: float, values: Sequence[float]) -> float:
        known = np.array(values)[np.isfinite(values)]
        return float(np.hypot(statistical, 0.5 * np.ptp(known) if len(known) else 0.0))

    room = f"at {temperature:g} K"
    found = {
        "K": Quantity(fit.bulk, "GPa", total(fit.bulk_error, convergence.bulks), f"−V dP/dV at V0, {room}"),
        "V0": Quantity(fit.v0, "Å³", total(fit.v0_error, convergence.volumes), f"volume without pressure, {room}"),
    }
    if fit.reached:
        error = total(fit.highest_error, convergence.tops)
        found["P_max"] = Quantity(fit.highest, "GPa", error, "largest pressure of the crystal: loss of crystallinity")
        found["V at P_max"] = Quantity(fit.v_highest, "Å³")
    else:
        found["P_max, at least"] = Quantity(fit.highest, "GPa", fit.highest_error, "no maximum in the range covered")
    nearest = min((p for p in points if p.kind == "pressure"), key=lambda p: abs(p.pressure), default=None)
    if nearest is not None and nearest.variance > 0.0:
        k = BOLTZMANN_EV * temperature * nearest.volume / nearest.variance * EV_PER_A3_IN_GPA
        meaning = f"kT⟨V⟩/var V of the runs at {nearest.condition}"
        found["K, fluctuations"] = Quantity(k, "GPa", None, meaning)
    judged: tuple[tuple[str, Literal["bulks", "tops"]], ...] = (("K", "bulks"), ("P_max", "tops"))
    for name, values in judged:
        if name in found and np.isfinite(spread := convergence.spread(values)):
            found[f"spread of {name}"] = Quantity(spread, "GPa", None, "as more of every run is discarded")
    found["misfit"] = Quantity(fit.misfit, "", None, "scatter of the points in their errors; 1 if not more")
    return found


def _wanted(points: Sequence[Point], fit: PressureFit, bulk_converged: bool, top_converged: bool) -> tuple[str, ...]:
    places = [fit.v0] * (not bulk_converged) + [fit.v_highest] * (not top_converged)
    near = [p.condition for at in places for p in sorted(points, key=lambda p: abs(p.volume - at))[:_AROUND]]
    return tuple(dict.fromkeys(near))


def _point_curve(points: Sequence[Point]) -> Curve:
    ordered = sorted(points, key=lambda p: p.volume)
    return Curve(
        {
            "volume [Å³]": tuple(p.volume for p in ordered),
            "error of volume [Å³]": tuple(p.volume_error for p in ordered),
            "pressure [GPa]": tuple(p.pressure for p in ordered),
            "error of pressure [GPa]": tuple(p.pressure_error for p in ordered),
            "at constant volume": tuple(float(p.kind == "volume") for p in ordered),
            "runs": tuple(float(p.runs) for p in ordered),
        }
    )


def _fit_curve(fit: PressureFit) -> Curve:
    return Curve(
        {
            "volume [Å³]": tuple(fit.volume.tolist()),
            "pressure [GPa]": tuple(fit.pressure.tolist()),
            "error of pressure [GPa]": tuple(fit.error.tolist()),
        }
    )


def _convergence_curve(c: Convergence) -> Curve:
    def plain(values: Sequence[float]) -> tuple[float | None, ...]:
        return tuple(float(v) if np.isfinite(v) else None for v in values)

    return Curve({"discarded": c.discards, "K [GPa]": plain(c.bulks), "P_max [GPa]": plain(c.tops),
                  "V0 [Å³]": plain(c.volumes)})  # fmt: skip


def _notes(
    fit: PressureFit,
    convergence: Convergence,
    failed: Mapping[str, str],
    left_out: Mapping[str, str],
    *,
    tolerances: tuple[float, float],
) -> list[str]:
    notes = []
    judged: tuple[tuple[str, Literal["bulks", "tops"], float], ...]
    judged = (("K", "bulks", tolerances[0]), ("P_max", "tops", tolerances[1]))
    for what, name, tolerance in judged:
        spread = convergence.spread(name)
        if not spread <= tolerance:
            told = f"spreads by {spread:.3g} GPa" if np.isfinite(spread) else "comes and goes"
            notes.append(
                f"Not converged: {what} {told} as {convergence.discards[0]:.0%} to {convergence.discards[-1]:.0%} of "
                f"every run is discarded, {tolerance:.3g} GPa is wanted: longer runs, or more `rounds:`."
            )
    if fit.misfit > 1.0:
        notes.append(
            f"The points scatter {fit.misfit:.2g} times as far as their errors say (± is widened for that): runs are "
            "shorter than their slow motions, or the curve has a step that it cannot follow."
        )
    if not fit.reached:
        notes.append(
            f"No maximum of P: the crystal stands {fit.highest:.3g} GPa at {fit.v_highest:.6g} Å³, the smallest volume "
            "covered. Runs at smaller volumes (`volumes:`) would find it."
        )
    for gone, why in {**failed, **left_out}.items():
        notes.append(f"Left out: {gone} ({why})")
    return notes
