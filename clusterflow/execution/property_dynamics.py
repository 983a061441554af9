"""Equilibrium runs of a property, in segments, and the reductions that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.protocols import Potential
from clusterflow.evaluate import pressure_volume, thermal_expansion, vibrational_spectrum
from clusterflow.evaluate.calculator_potential import CalculatorPotential
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.execution.property_inputs import modes_of, potential_of, relaxed_structure
from clusterflow.execution.workplace import Workplace
from clusterflow.physics.spectrum import Spectrum, power_spectrum
from clusterflow.physics.timeseries import Series, joined, load_series

_SERIES, _LAST, _SPECTRUM = "series.npz", "last.npz", "spectrum.npz"


def dynamics(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """One segment of a run; one that follows a run which has stopped publishes nothing but that."""
    from clusterflow.explore.sampling import sample

    start = relaxed_structure(payload["relaxed"], place)
    before = place.result("dynamics", payload["after"]) if "after" in payload else None
    stopped = load_series(before / _SERIES).stop_reason if before is not None else ""
    if before is not None:
        _continue(start, before / _LAST)
    if stopped:
        series, last = _empty(stopped), start
    else:
        names = ("temperature_K", "pressure_GPa", "steps", "seed", "timestep_fs", "friction_time_fs",
                 "barostat_interval", "interval", "keep_bonds")  # fmt: skip
        series, last = sample(
            start,
            _reused(potential_of(payload["potential"], place)),
            workdir=place.scratch,
            keep_velocities=before is not None,
            **{name: payload[name] for name in names},
        )
    series.save(place.out / _SERIES)
    np.savez(place.out / _LAST, positions=last.positions, cell=last.cell.array, velocities=last.get_velocities())
    told = {name: payload[name] for name in ("structure", "temperature_K", "pressure_GPa", "steps")}
    return {**told, "samples": len(series.time), "stop_reason": series.stop_reason}


def _continue(atoms: Atoms, path: Path) -> None:
    """Puts the state at the end of the segment before into ``atoms``."""
    with np.load(path, allow_pickle=False) as state:
        atoms.set_cell(state["cell"])
        atoms.positions = state["positions"]
        atoms.set_velocities(state["velocities"])


def _empty(reason: str) -> Series:
    none = np.zeros(0)
    return Series(none, none, none, none, none, np.zeros((0, 3, 3)), np.zeros((0, 3, 3)), reason)


def _reused(potential: Potential) -> Potential:
    """A calculator that lasts: a new one per step would build its tables each time."""
    if not isinstance(potential, CalculatorPotential):
        return potential
    calculator = potential.calculator()
    return replace(potential, make=lambda: calculator)


def _whole_run(keys: Sequence[str], place: Workplace) -> Series:
    return joined([load_series(place.result("dynamics", key) / _SERIES) for key in keys])


def reduce_pressure_volume(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """The points, the curve through them, and whether it is converged."""
    runs = [pressure_volume.Run(kind, value, _whole_run(keys, place)) for kind, value, keys in payload["runs"]]
    return pressure_volume.pressure_volume(
        runs,
        temperature=payload["temperature_K"],
        tolerance_bulk=payload["tolerance"],
        tolerance_top=payload["tolerance_maximum"],
        failed=dict(payload["failed"]),
    )


def reduce_thermal_expansion(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """Means at each temperature and their slope."""
    return thermal_expansion.thermal_expansion(
        [thermal_expansion.Run(t, _whole_run(keys, place)) for t, keys in payload["runs"]],
        temperature=payload["temperature_K"],
        pressure=payload["pressure_GPa"],
        failed=dict(payload["failed"]),
    )


def vibrations(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """One run at constant energy; its spectrum is published, its velocities are not."""
    from clusterflow.explore.microcanonical import free_run
    from clusterflow.physics.vibrations import rigid_motions

    atoms = relaxed_structure(payload["relaxed"], place)
    names = ("temperature_K", "equilibration", "steps", "interval", "timestep_fs", "friction_time_fs", "keep_bonds",
             "seed")  # fmt: skip
    run = free_run(
        atoms,
        _reused(potential_of(payload["potential"], place)),
        workdir=place.scratch,
        **{name: payload[name] for name in names},
    )
    found = power_spectrum(
        run.velocities,
        np.asarray(atoms.get_masses(), dtype=np.float64),
        tuple(atoms.get_chemical_symbols()),
        spacing=payload["interval"] * payload["timestep_fs"],
        timestep=payload["timestep_fs"],
        resolution=payload["resolution"],
        degrees_of_freedom=3 * len(atoms) - rigid_motions(atoms).shape[1],
    )
    np.savez_compressed(
        place.out / _SPECTRUM,
        wavenumber=found.wavenumber,
        density=found.density,
        elements=np.array(found.elements),
        temperature=found.temperature,
        drift=run.drift,
    )
    return {"structure": payload["structure"], "temperature_K": found.temperature, "drift": run.drift}


def _spectrum(key: str, place: Workplace) -> vibrational_spectrum.Run:
    with np.load(place.result("vibrations", key) / _SPECTRUM, allow_pickle=False) as data:
        elements = tuple(str(e) for e in data["elements"])
        spectrum = Spectrum(data["wavenumber"], data["density"], elements, float(data["temperature"]))
        return vibrational_spectrum.Run(spectrum, float(data["drift"]))


def reduce_vibrational_spectrum(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """Mean of the runs, and the modes of the Hessian beside it."""
    modes = None
    if payload["cells"]:
        (cell,) = payload["cells"]
        modes = modes_of(relaxed_structure(payload["relaxed"], place), cell["repeat"], cell["rows"], place)
    return vibrational_spectrum.vibrational_spectrum(
        [_spectrum(key, place) for key in payload["runs"]],
        temperature=payload["temperature_K"],
        resolution=payload["resolution"],
        highest=payload["highest"],
        modes=modes,
        failed=payload["failed"],
    )
