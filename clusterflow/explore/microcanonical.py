"""Dynamics at constant energy, for what depends on time: velocities of an undisturbed run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import fs

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import ScienceError
from clusterflow.explore.evaluation import check_elements
from clusterflow.explore.openmm_md import OpenMMExplorer
from clusterflow.explore.stop import BlowUpLimits
from clusterflow.explore.thermodynamics import kinetic_energy

_CHECKS = 50
"""How often in a run the energy is looked at."""


@dataclass(frozen=True, slots=True)
class FreeRun:
    """``velocities`` (n, atoms, 3) in ASE's unit; ``drift`` of the total energy, eV per atom and ps."""

    velocities: FloatArray
    drift: float


def free_run(
    start: Atoms,
    potential: Potential,
    *,
    temperature_K: float,
    equilibration: int,
    steps: int,
    interval: int,
    timestep_fs: float,
    friction_time_fs: float,
    seed: int,
    workdir: Path,
    keep_bonds: bool = True,
) -> FreeRun:
    """Equilibrates ``equilibration`` steps at constant volume and temperature, then follows the motion ``steps`` steps
    at constant energy (ASE's velocity Verlet) and keeps velocities every ``interval`` steps. Between the two the motion
    of the centre of mass is taken out, and the rotation of a molecule.

    Raises
    ------
    ScienceError
        The structure did not last, or the energy ran away.
    """
    from ase.md.velocitydistribution import Stationary, ZeroRotation
    from ase.md.verlet import VelocityVerlet

    check_elements(start, potential)
    explorer = OpenMMExplorer(
        temperature_K,
        None,
        equilibration,
        timestep_fs=timestep_fs,
        friction_time_fs=friction_time_fs,
        frame_interval=equilibration,
        limits=BlowUpLimits(keep_bonds=keep_bonds),
    )
    walk = explorer.explore(start, potential, seed=seed, workdir=workdir)
    if walk.stop_reason:
        raise ScienceError(
            f"The equilibration at {temperature_K:g} K {walk.stop_reason}.",
            where=f"structure {start.get_chemical_formula()}",
            todo="Lower the temperature or the time step; for metals give `bonds: free`.",
        )
    atoms = walk.frames[-1].copy()
    atoms.calc = potential.calculator()
    Stationary(atoms, preserve_temperature=False)
    if not atoms.pbc.any():
        ZeroRotation(atoms, preserve_temperature=False)
    velocities = np.zeros((steps // interval, len(atoms), 3))
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * fs)
    masses = np.asarray(atoms.get_masses(), dtype=np.float64)
    times, energies = [], []
    every = max(1, len(velocities) // _CHECKS)
    for k in range(len(velocities)):
        for _ in range(interval):
            dynamics.step()
        velocities[k] = atoms.get_velocities()
        if k % every == 0:
            energies.append(float(atoms.get_potential_energy()) + kinetic_energy(velocities[k], masses))
            times.append((k + 1) * interval * timestep_fs / 1000.0)
            if not np.isfinite(energies[-1]) or abs(energies[-1] - energies[0]) > 0.1 * len(atoms):
                raise ScienceError(
                    f"The energy ran away by more than 0.1 eV per atom within {times[-1]:.3g} ps at constant energy.",
                    where=f"structure {start.get_chemical_formula()}",
                    todo="Take a shorter `timestep:`; look whether the potential is smooth.",
                )
    drift = float(np.polyfit(times, energies, 1)[0]) / len(atoms) if len(times) > 2 else 0.0
    return FreeRun(velocities, drift)
