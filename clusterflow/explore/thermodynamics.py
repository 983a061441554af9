"""Velocities, temperature and pressure of a configuration. Velocities are in ASE's unit, Å sqrt(eV/amu)/Å."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from clusterflow.core.data import FloatArray, Prediction
from clusterflow.units import BOLTZMANN_EV, EV_PER_A3_IN_GPA


def is_free_molecule(atoms: Atoms) -> bool:
    """More than one atom and no periodic direction: its centre-of-mass motion says nothing and is removed."""
    return len(atoms) > 1 and not bool(atoms.pbc.any())


def degrees_of_freedom(atoms: Atoms) -> int:
    """Number of momentum degrees of freedom: 3n, less 3 for a free molecule."""
    return 3 * len(atoms) - (3 if is_free_molecule(atoms) else 0)


def remove_drift(velocities: FloatArray, masses: FloatArray) -> FloatArray:
    """Velocities without the motion of the centre of mass."""
    drift: FloatArray = velocities - (masses @ velocities) / masses.sum()
    return drift


def maxwell_boltzmann(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> FloatArray:
    """(n, 3) velocities drawn from the canonical distribution (not rescaled), without drift for a free molecule."""
    masses = np.asarray(atoms.get_masses(), dtype=np.float64)
    velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(BOLTZMANN_EV * temperature_K / masses)[:, None]
    return remove_drift(velocities, masses) if is_free_molecule(atoms) else velocities


def kinetic_energy(velocities: FloatArray, masses: FloatArray) -> float:
    """Kinetic energy in eV."""
    return float(0.5 * (masses @ np.einsum("ij,ij->i", velocities, velocities)))


def kinetic_temperature(velocities: FloatArray, masses: FloatArray, dof: int) -> float:
    """Instantaneous temperature in K from the given number of momentum degrees of freedom."""
    return 2.0 * kinetic_energy(velocities, masses) / (max(dof, 1) * BOLTZMANN_EV)


def internal_pressure(
    prediction: Prediction, velocities: FloatArray, masses: FloatArray, volume: float
) -> float | None:
    """Instantaneous pressure, virial plus ideal-gas part, in GPa; None where the potential gave no stress."""
    if prediction.stress is None:
        return None
    stress: NDArray[np.float64] = np.asarray(prediction.stress)
    kinetic = 2.0 * kinetic_energy(velocities, masses) / (3.0 * volume)
    return float((kinetic - np.trace(stress) / 3.0) * EV_PER_A3_IN_GPA)
