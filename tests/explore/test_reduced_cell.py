"""The way into OpenMM's box and back."""

import numpy as np
import openmm
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from clusterflow.explore.reduced_cell import BoxView, reduced_form
from clusterflow.testing.analytic_potentials import LennardJones

CELLS = {
    "orthorhombic": np.diag([8.0, 9.0, 10.0]),
    "fcc-primitive": bulk("Cu", "fcc", a=12.0).cell.array,
    "bcc-primitive": bulk("Fe", "bcc", a=10.0).cell.array,
    "hexagonal": bulk("Zn", "hcp", a=7.0, c=11.0).cell.array,
    "rhombohedral": bulk("Cu", "fcc", a=12.0).cell.array @ Rotation.from_rotvec([0.3, 0.7, -0.2]).as_matrix(),
    "left-handed": np.diag([8.0, 9.0, 10.0])[[1, 0, 2]],
    "skewed": np.array([[8.0, 0, 0], [30.0, 9.0, 0], [-21.0, 13.0, 10.0]]),
    **{f"random-{s}": np.random.default_rng(s).normal(size=(3, 3)) * 6 for s in range(5)},
}


@pytest.mark.parametrize("name", CELLS)
def test_reduced_form(name):
    cell = np.array(CELLS[name])
    box, basis, rotation = reduced_form(cell)
    assert np.allclose(basis @ box @ rotation, cell, atol=1e-10)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.array_equal(basis, np.rint(basis))
    assert abs(np.linalg.det(basis)) == pytest.approx(1.0)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(box * 0.1))  # raises unless reduced to the last bit


@pytest.mark.parametrize("name", CELLS)
def test_energy_and_forces_do_not_notice(name):
    cell = np.array(CELLS[name])
    rng = np.random.default_rng(3)
    atoms = Atoms("Ar6", positions=rng.normal(size=(6, 3)) * 20, cell=cell, pbc=True)
    potential = LennardJones(epsilon=0.01, sigma=1.0, cutoff=4.0)
    here = potential.one(atoms)
    view = BoxView(cell, atoms.positions)
    there_atoms = Atoms("Ar6", positions=view.start_positions(atoms.positions), cell=view.box, pbc=True)
    there = potential.one(there_atoms)
    scale = np.abs(here.forces).max()
    assert there.energy == pytest.approx(here.energy, rel=1e-8)
    assert np.allclose(view.from_openmm(there.forces), here.forces, rtol=0, atol=1e-7 * scale)
    assert np.allclose(view.stress_from_openmm(there.stress), here.stress, atol=1e-7 * np.abs(here.stress).max())
    back_cell, back = view.cell_and_positions(view.start_positions(atoms.positions))
    assert np.allclose(back_cell, cell, atol=1e-10)
    assert np.allclose(back, atoms.positions, atol=1e-9)


def test_the_users_cell_stays_continuous_when_openmm_changes_lattice_vectors():
    cell = np.array([[10.0, 0, 0], [4.95, 9.0, 0], [1.0, 2.0, 11.0]])
    positions = np.array([[1.0, 2.0, 3.0], [25.0, -7.0, 4.0]])
    view = BoxView(cell, positions)
    at = view.start_positions(positions)
    strained = cell.copy()
    strained[1, 0] = 5.1  # beyond a/2: OpenMM would now use b - a
    box = strained.copy()
    box[1] -= box[0]
    view.follow(box)
    new_cell, new_positions = view.cell_and_positions(at)
    assert np.allclose(new_cell, strained, atol=1e-12)
    moved = new_positions - positions
    assert np.abs(moved).max() < 1.0  # at most a few images of the 0.15 Å shear
