"""Kinetic theory of an ideal gas."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.core.data import Prediction
from clusterflow.explore.thermodynamics import (
    degrees_of_freedom,
    internal_pressure,
    kinetic_temperature,
    maxwell_boltzmann,
)
from clusterflow.units import BOLTZMANN_EV, EV_PER_A3_IN_GPA


def test_equipartition_by_mass():
    atoms = Atoms("H3000Zr3000", positions=np.zeros((6000, 3)), cell=[10] * 3, pbc=True)
    v = maxwell_boltzmann(atoms, 500.0, np.random.default_rng(1))
    masses = atoms.get_masses()
    for half in (slice(0, 3000), slice(3000, None)):
        assert kinetic_temperature(v[half], masses[half], 9000) == pytest.approx(500.0, rel=0.05)
    atoms.set_velocities(v)
    assert kinetic_temperature(v, masses, 18000) == pytest.approx(atoms.get_temperature(), rel=1e-5)


def test_a_molecule_does_not_drift():
    atoms = molecule("C6H6")
    v = maxwell_boltzmann(atoms, 500.0, np.random.default_rng(1))
    assert np.allclose(atoms.get_masses() @ v, 0.0, atol=1e-12)
    assert degrees_of_freedom(atoms) == 33
    assert degrees_of_freedom(Atoms("Ar")) == 3
    atoms.pbc = True
    assert degrees_of_freedom(atoms) == 36


def test_pressure_of_an_ideal_gas_and_of_a_virial():
    atoms = Atoms("Ar10000", positions=np.zeros((10000, 3)), cell=[50] * 3, pbc=True)
    v = maxwell_boltzmann(atoms, 300.0, np.random.default_rng(2))
    none = Prediction(0.0, np.zeros((10000, 3)), np.zeros((3, 3)))
    ideal = 10000 * BOLTZMANN_EV * 300.0 / 50**3 * EV_PER_A3_IN_GPA
    assert internal_pressure(none, v, atoms.get_masses(), 50.0**3) == pytest.approx(ideal, rel=0.03)
    compressed = Prediction(0.0, np.zeros((10000, 3)), -0.01 * np.eye(3))  # tension positive
    assert internal_pressure(compressed, 0 * v, atoms.get_masses(), 50.0**3) == pytest.approx(1.6021766, rel=1e-6)
    assert internal_pressure(Prediction(0.0, none.forces), v, atoms.get_masses(), 50.0**3) is None
