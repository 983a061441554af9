"""Energy against volume at zero temperature, and the bulk modulus: Dobbelaere et al., arXiv:2504.03881 (2025), SI 9.2.

The structure is scaled over a grid of volumes; at each one positions and cell shape relax while the volume stays; three
equations of state are fitted on the widest interval on which they agree. Each volume begins from the scaled input
structure, not from its neighbour's result, so volumes are independent and may run at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError
from clusterflow.evaluate.calculator_potential import as_potential, require_elements
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.evaluate.relaxation import FMAX, Optimiser, Relaxed, relax, require_crystal
from clusterflow.evaluate.volume_grid import require_bracketed
from clusterflow.physics.eos import GPA, MIN_POINTS, Agreement, agreeing_fits

_CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class VolumePoint:
    """One relaxed volume: ``ratio`` to the input's; ``volume`` Å³; ``energy`` eV; ``pressure`` GPa from the stress,
    None if the potential has none; ``max_force`` eV/Å; ``steps`` of the relaxation."""

    ratio: float
    volume: float
    energy: float
    pressure: float | None
    max_force: float
    steps: int

    def to_json(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self)


def volume_ratios(low: float, high: float, points: int) -> tuple[float, ...]:
    """Volumes to compute, relative to that of the input, equally spaced."""
    return tuple(round(float(r), 12) for r in np.linspace(low, high, points))


def scaled(atoms: Atoms, ratio: float) -> Atoms:
    """The structure with its volume times ``ratio``, fractional coordinates kept."""
    require_crystal(atoms)
    copy: Atoms = atoms.copy()
    copy.set_cell(atoms.cell.array * ratio ** (1.0 / 3.0), scale_atoms=True)
    return copy


def volume_point(ratio: float, found: Relaxed) -> VolumePoint:
    """What the reduction needs of a relaxed volume."""
    pressure = None if found.stress is None else float(-np.trace(found.stress) / 3.0 * GPA)
    return VolumePoint(ratio, float(found.atoms.get_volume()), found.energy, pressure, found.max_force, found.steps)


def energy_volume(
    points: Sequence[VolumePoint],
    *,
    n_atoms: int,
    failed: Mapping[float, str] | None = None,
    agreement: float = 0.01,
    min_points: int = MIN_POINTS,
) -> PropertyResult:
    """V₀, E₀, K, K' with the spread of three equations of state, and the curves.

    ``failed``: ratios of volumes that could not be relaxed, with the reason; they are left out and noted.

    Raises
    ------
    ScienceError
        Too few volumes, a grid that does not bracket the minimum (with a range to try), or points that no equation of
        state fits.
    """
    failed = dict(failed or {})
    points = sorted(points, key=lambda p: p.volume)
    volumes = np.array([p.volume for p in points])
    energies = np.array([p.energy for p in points])
    require_bracketed([p.ratio for p in points], volumes.tolist(), energies.tolist(), failed)
    try:
        fits = agreeing_fits(volumes, energies, tolerance=agreement, min_points=min_points)
    except ScienceError as error:
        if not failed:
            raise
        ratio, why = next(iter(failed.items()))
        raise ScienceError(
            f"{error.what} ({len(failed)} volumes could not be relaxed, at {ratio:.4g} × the input's: {why})",
            where=error.where,
            todo=error.todo,
        ) from error
    return PropertyResult(
        kind="energy_volume",
        quantities=_quantities(fits, n_atoms, _stress_bulk(points, fits)),
        curves={"points": _points(points, fits), "fits": _curves(fits)},
        notes=tuple(_notes(points, fits, failed, agreement)),
    )


def _quantities(fits: Agreement, n_atoms: int, from_stress: float | None) -> dict[str, Quantity]:
    mean, error = fits.mean, fits.uncertainty
    found = {
        "K": Quantity(mean("bulk") * GPA, "GPa", error("bulk") * GPA, "bulk modulus at the minimum"),
        "V0": Quantity(mean("volume"), "Å³", error("volume"), "volume of the minimum"),
        "K'": Quantity(mean("derivative"), "", error("derivative"), "pressure derivative of the bulk modulus"),
        "E0": Quantity(mean("energy"), "eV", error("energy"), "energy of the minimum"),
        "E0 per atom": Quantity(mean("energy") / n_atoms, "eV", error("energy") / n_atoms),
    }
    for fit in fits.fits:
        found[f"K, {fit.form}"] = Quantity(fit.bulk * GPA, "GPa", fit.bulk_error * GPA)
    if from_stress is not None:
        found["K, stress"] = Quantity(from_stress * GPA, "GPa", None, "−V dP/dV of the computed stresses at V0")
    low, high = fits.fits[0].interval
    found["interval, low"] = Quantity(low, "Å³", None, "smallest volume in the fits")
    found["interval, high"] = Quantity(high, "Å³", None, "largest volume in the fits")
    return found


def _stress_bulk(points: Sequence[VolumePoint], fits: Agreement) -> float | None:
    """K in eV/Å³ from the slope of the stresses at V₀: a cubic through the points of the fitted interval."""
    low, high = fits.fits[0].interval
    used = [p for p in points if p.pressure is not None and low <= p.volume <= high]
    if len(used) < 5:
        return None
    v0 = fits.mean("volume")
    x = np.array([p.volume / v0 - 1.0 for p in used])
    pressures = np.array([p.pressure or 0.0 for p in used]) / GPA
    return float(-np.polyfit(x, pressures, 3)[2])


def _points(points: Sequence[VolumePoint], fits: Agreement) -> Curve:
    low, high = fits.fits[0].interval
    return Curve(
        {
            "volume [Å³]": tuple(p.volume for p in points),
            "energy [eV]": tuple(p.energy for p in points),
            "pressure from stress [GPa]": tuple(p.pressure for p in points),
            "largest force [eV/Å]": tuple(p.max_force for p in points),
            "in the fits": tuple(float(low <= p.volume <= high) for p in points),
        }
    )


def _curves(fits: Agreement) -> Curve:
    low, high = fits.fits[0].interval
    grid: FloatArray = np.linspace(low, high, _CURVE_POINTS)
    columns: dict[str, tuple[float | None, ...]] = {"volume [Å³]": tuple(grid.tolist())}
    for fit in fits.fits:
        columns[f"energy, {fit.form} [eV]"] = tuple(fit.energies(grid).tolist())
        columns[f"pressure, {fit.form} [GPa]"] = tuple((fit.pressures(grid) * GPA).tolist())
    return Curve(columns)


def _notes(points: Sequence[VolumePoint], fits: Agreement, failed: Mapping[float, str], agreement: float) -> list[str]:
    notes = []
    if not fits.agreed:
        notes.append(
            f"The equations of state do not agree: K spreads by {100 * fits.spread:.2g} % on the narrowest interval, "
            f"{100 * agreement:.2g} % is wanted. A finer grid around V0 may help; kinks in the curve do not go away."
        )
    if failed:
        told = ", ".join(f"{r:.4g}" for r in sorted(failed))
        notes.append(f"Not relaxed, so left out: volumes {told} × the input's ({next(iter(failed.values()))})")
    from_stress = _stress_bulk(points, fits)
    bulk = fits.mean("bulk")
    if from_stress is not None and abs(from_stress / bulk - 1.0) > 0.05:
        notes.append(
            f"K from the stresses, {from_stress * GPA:.3g} GPa, differs by more than 5 % from K of the energies, "
            f"{bulk * GPA:.3g} GPa: neighbouring volumes may lie in different basins, or forces are not tight enough."
        )
    return notes


def compute(
    atoms: Atoms,
    potential: Any,
    *,
    range: tuple[float, float] = (0.94, 1.06),
    points: int = 13,
    fmax: float = FMAX,
    max_steps: int = 1000,
    optimiser: Optimiser = "lbfgs",
    agreement: float = 0.01,
    min_points: int = MIN_POINTS,
    log: Path | None = None,
) -> PropertyResult:
    """Energy–volume curve of a structure with any `Potential` or ASE calculator, in this process.

    Raises
    ------
    InputError
        Not periodic, an element that the potential does not know, or no stress.
    ScienceError
        As `energy_volume`.
    """
    potential = as_potential(potential)
    require_crystal(atoms)
    require_elements(atoms, potential)
    found, failed = [], {}
    for ratio in volume_ratios(*range, points):
        try:
            rest = relax(
                scaled(atoms, ratio),
                potential,
                freedom="shape",
                fmax=fmax,
                max_steps=max_steps,
                optimiser=optimiser,
                log=log,
            )
        except ScienceError as error:
            failed[ratio] = error.what
            continue
        found.append(volume_point(ratio, rest))
    return energy_volume(found, n_atoms=len(atoms), failed=failed, agreement=agreement, min_points=min_points)
