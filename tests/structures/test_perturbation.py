"""Random displacements and strain."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from clusterflow.errors import InputError
from clusterflow.structures.perturbation import perturb


def test_same_generator_state_gives_the_same_structure() -> None:
    atoms = bulk("Cu", cubic=True) * 2
    first, second, other = (
        perturb(atoms, displacement=0.05, strain=0.02, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.positions, second.positions)
    assert np.array_equal(first.cell.array, second.cell.array)
    assert not np.array_equal(first.positions, other.positions)
    assert np.array_equal(atoms.positions, (bulk("Cu", cubic=True) * 2).positions)


def test_displacements_have_the_stated_width() -> None:
    atoms = Atoms("H4000", positions=np.zeros((4000, 3)))
    moved = perturb(atoms, displacement=0.08, strain=0.5, rng=np.random.default_rng(0))
    assert moved.positions.std() == pytest.approx(0.08, rel=0.03)
    assert moved.positions.mean() == pytest.approx(0.0, abs=0.003)


def test_strain_is_symmetric_has_the_stated_width_and_carries_the_atoms() -> None:
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(1)
    strains = []
    for _ in range(300):
        moved = perturb(atoms, displacement=0.0, strain=0.03, rng=rng)
        epsilon = np.linalg.inv(atoms.cell.array) @ moved.cell.array - np.eye(3)
        np.testing.assert_allclose(epsilon, epsilon.T, atol=1e-12)
        np.testing.assert_allclose(moved.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)
        strains.append(epsilon[np.triu_indices(3)])
    assert np.array(strains).std(axis=0) == pytest.approx(0.03, rel=0.2)


def test_only_periodic_directions_are_strained() -> None:
    water = molecule("H2O")
    assert perturb(water, displacement=0.0, strain=0.1, rng=np.random.default_rng(0)) == water
    slab = Atoms("C", positions=[[0, 0, 5.0]], cell=[3, 3, 20], pbc=[True, True, False])
    moved = perturb(slab, displacement=0.0, strain=0.1, rng=np.random.default_rng(0))
    np.testing.assert_allclose(moved.cell.array[2], [0, 0, 20])
    assert moved.positions[0, 2] == pytest.approx(5.0)
    assert not np.allclose(moved.cell.array[:2], slab.cell.array[:2])


def test_old_results_and_velocities_are_gone() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.set_momenta(np.ones((4, 3)))
    moved = perturb(atoms, displacement=0.1, strain=0.0, rng=np.random.default_rng(0))
    assert moved.calc is None
    assert not moved.has("momenta")


@pytest.mark.parametrize(("displacement", "strain"), [(-0.1, 0.0), (0.0, -0.1), (np.nan, 0.0)])
def test_impossible_widths(displacement: float, strain: float) -> None:
    with pytest.raises(InputError, match="no standard deviation"):
        perturb(molecule("H2O"), displacement=displacement, strain=strain, rng=np.random.default_rng(0))
