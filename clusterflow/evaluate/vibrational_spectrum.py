"""Vibrational density of states from dynamics, per element, and the harmonic one of the Hessian beside it.

As Sharma and Sanvito (npj Comput. Mater. 10, 237, 2024) do for ZIF-8 and MOF-5: velocities of a run at constant energy
that follows an equilibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.physics.spectrum import Spectrum, broadened
from clusterflow.physics.vibrations import Modes

_DRIFT = 1e-3
"""eV per atom and ps: kT/25 per ps at 300 K."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its spectrum, and the drift of its energy, eV per atom and ps."""

    spectrum: Spectrum
    drift: float


def vibrational_spectrum(
    runs: Sequence[Run],
    *,
    temperature: float,
    resolution: float,
    highest: float,
    modes: Modes | None = None,
    failed: Sequence[str] = (),
) -> PropertyResult:
    """Mean of the runs with its standard error, up to ``highest`` cm⁻¹; ``modes`` of the Hessian to compare with.

    Raises
    ------
    ScienceError
        No run is left, or nothing vibrates below ``highest``.
    """
    if not runs:
        raise ScienceError(
            f"No run is left: {failed[0] if failed else 'none was given'}", todo="Mend what stopped them."
        )
    first = runs[0].spectrum
    keep = first.wavenumber <= highest
    grid = first.wavenumber[keep]
    parts = np.array([r.spectrum.density[:, keep] for r in runs])
    totals = parts.sum(axis=1)
    total = totals.mean(axis=0)
    if not total.max() > 0.0:
        raise ScienceError(f"Nothing moves below {highest:g} cm⁻¹.", todo="Give a larger `highest:`.")
    error = totals.std(axis=0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else None
    harmonic = None if modes is None else broadened(modes.wavenumbers, grid, resolution) / modes.cells
    columns: dict[str, tuple[float | None, ...]] = {
        "wavenumber [cm⁻¹]": tuple(grid.tolist()),
        "total [1/cm⁻¹]": tuple(total.tolist()),
    }
    if error is not None:
        columns["error of total [1/cm⁻¹]"] = tuple(error.tolist())
    for name, row in zip(first.elements, parts.mean(axis=0), strict=True):
        columns[f"{name} [1/cm⁻¹]"] = tuple(row.tolist())
    if harmonic is not None:
        columns["Hessian [1/cm⁻¹]"] = tuple(harmonic.tolist())
    return PropertyResult(
        kind="vibrational_spectrum",
        quantities=_quantities(runs, grid, totals, harmonic, resolution),
        curves={"spectrum": Curve(columns)},
        notes=tuple(_notes(runs, grid, total, temperature, resolution, modes, failed)),
    )


def overlap(first: FloatArray, second: FloatArray, grid: FloatArray) -> float:
    """Common area of two densities, each with area 1: 1 if they are equal, 0 if they have nothing in common."""
    a, b = first / np.trapezoid(first, grid), second / np.trapezoid(second, grid)
    return float(np.trapezoid(np.minimum(a, b), grid))


def _quantities(
    runs: Sequence[Run], grid: FloatArray, totals: FloatArray, harmonic: FloatArray | None, resolution: float
) -> dict[str, Quantity]:
    def over_runs(values: Sequence[float]) -> tuple[float, float | None]:
        x = np.array(values)
        return float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else None

    def quantity(values: Sequence[float], unit: str, meaning: str) -> Quantity:
        mean, error = over_runs(values)
        return Quantity(mean, unit, error, meaning)

    means = [float(np.trapezoid(grid * g, grid) / np.trapezoid(g, grid)) for g in totals]
    areas = [float(np.trapezoid(g, grid)) for g in totals]
    top = float(grid[np.argmax(totals.mean(axis=0))])
    found = {
        "mean wavenumber": quantity(means, "cm⁻¹", "first moment of the spectrum"),
        "strongest peak": Quantity(top, "cm⁻¹", 0.5 * resolution, "± half the width of a line"),
        "modes": quantity(areas, "", "area under the spectrum up to the highest wavenumber"),
        "temperature": quantity([r.spectrum.temperature for r in runs], "K", "kinetic, of the runs"),
        "energy drift": quantity([1000.0 * r.drift for r in runs], "meV/ps", "per atom, at constant energy"),
    }
    if harmonic is not None:
        found["overlap with the Hessian"] = Quantity(
            overlap(totals.mean(axis=0), harmonic, grid), "", None, "common area with the harmonic spectrum; 1: equal"
        )
    return found


def _notes(
    runs: Sequence[Run],
    grid: FloatArray,
    total: FloatArray,
    temperature: float,
    resolution: float,
    modes: Modes | None,
    failed: Sequence[str],
) -> list[str]:
    notes = []
    if len(runs) == 1:
        notes.append("One run only: there is no error; give two or more `replicas:`.")
    drift = float(np.mean([abs(r.drift) for r in runs]))
    if drift > _DRIFT:
        notes.append(f"The energy drifts by {1000.0 * drift:.2g} meV per atom and ps: take a shorter `timestep:`.")
    kinetic = float(np.mean([r.spectrum.temperature for r in runs]))
    if abs(kinetic / temperature - 1.0) > 0.1:
        notes.append(
            f"The runs are at {kinetic:.4g} K in the mean, {temperature:g} K is wanted: a run at constant energy keeps "
            "what it begins with. More replicas, or a longer equilibration."
        )
    still = grid < resolution
    resting = float(np.trapezoid(total[still], grid[still])) if still.sum() > 1 else 0.0
    if resting > 1.0:
        notes.append(f"{resting:.2g} modes lie below {resolution:g} cm⁻¹: something diffuses or turns freely.")
    if modes is not None and (imaginary := int((modes.wavenumbers < 0.0).sum())):
        notes.append(f"{imaginary} of {modes.wavenumbers.size} modes of the Hessian are imaginary: no minimum.")
    if failed:
        notes.append(f"Left out: {len(failed)} runs ({failed[0]})")
    return notes
