"""The potentials that other tests lean on: forces and stress are derivatives of the energy."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from clusterflow.testing.analytic_potentials import EinsteinCrystal, ElasticCell, LennardJones, SpringNetwork

STEP = 1e-5


def start():
    atoms = bulk("Ar", "fcc", a=5.2).repeat(2)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * np.random.default_rng(1).normal(size=(3, 3))), True)
    return atoms


CASES = {
    "einstein": EinsteinCrystal(sites=start().positions + 0.1, stiffness=2.0),
    "lennard-jones": LennardJones(cutoff=7.3),
    "elastic": ElasticCell(reference=start().cell.array * 1.1, bulk=0.2, shear=0.3),
    "springs": SpringNetwork.of(bulk("Ar", "fcc", a=5.2).repeat(2), cutoff=5.3),
}


@pytest.mark.parametrize("name", CASES)
def test_forces(name):
    atoms, potential = start(), CASES[name]
    forces = potential.one(atoms).forces
    for i, k in ((0, 0), (3, 1), (7, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, k] += sign * STEP
            energies.append(potential.one(moved).energy)
        assert forces[i, k] == pytest.approx(-(energies[0] - energies[1]) / (2 * STEP), abs=1e-6)


@pytest.mark.parametrize("name", ["lennard-jones", "elastic", "springs"])
def test_stress(name):
    atoms, potential = start(), CASES[name]
    stress = potential.one(atoms).stress
    for a, b in ((0, 0), (1, 1), (0, 1), (1, 2), (0, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * STEP
        strain[b, a] += 0.5 * STEP
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
            energies.append(potential.one(moved).energy)
        numeric = (energies[0] - energies[1]) / (2 * STEP * atoms.get_volume())
        assert stress[a, b] == pytest.approx(numeric, abs=1e-7)


def test_mean_volume_of_an_ideal_gas():
    """Without stiffness ⟨V⟩ = (N + 1) kT / P."""
    gas = ElasticCell(reference=10 * np.eye(3), bulk=1e-12, shear=0.0)
    kT = 0.05
    assert gas.mean_volume(20, kT, 21 * kT / 1000.0) == pytest.approx(1000.0, rel=1e-4)


def test_a_dimer_without_a_boundary():
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [3.4 * 2 ** (1 / 6), 0, 0]])
    found = LennardJones(cutoff=50.0).one(dimer)
    assert found.energy == pytest.approx(-0.0104, rel=1e-5)
    assert np.abs(found.forces).max() < 1e-10
    assert found.stress is None
