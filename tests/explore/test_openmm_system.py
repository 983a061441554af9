"""A structure with any potential as an OpenMM System."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
from ase.build import bulk, fcc111, molecule

from clusterflow.errors import StructureError
from clusterflow.explore.openmm_system import OpenMMSystem, openmm_system
from clusterflow.testing.analytic_potentials import LennardJones
from clusterflow.units import ANGSTROM_IN_NM, EV_IN_KJ_PER_MOL

POTENTIAL = LennardJones(epsilon=0.2, sigma=2.2, cutoff=4.0)


def context(built: OpenMMSystem) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.0005)
    made = openmm.Context(built.system, integrator, openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(built.positions)
    return made


@pytest.mark.parametrize("periodic", [True, False])
def test_energy_and_forces_are_those_of_the_potential(periodic: bool) -> None:
    atoms = bulk("Cu").repeat((2, 3, 2)) if periodic else molecule("CH3OH")
    if periodic:
        atoms.set_cell(atoms.cell.array @ [[1, 0.05, 0], [0, 1, 0.03], [0.1, 0, 1]], scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    built = openmm_system(atoms, POTENTIAL)
    state = context(built).getState(energy=True, forces=True)
    expected = POTENTIAL.predict([atoms])[0]
    assert state.getPotentialEnergy()._value / EV_IN_KJ_PER_MOL == pytest.approx(expected.energy, abs=1e-5)
    forces = state.getForces(asNumpy=True)._value / EV_IN_KJ_PER_MOL * ANGSTROM_IN_NM
    assert forces @ built.rotation == pytest.approx(expected.forces, abs=1e-4)
    assert [a.element.symbol for a in built.topology.atoms()] == atoms.get_chemical_symbols()
    assert built.system.usesPeriodicBoundaryConditions() is periodic


def test_a_barostat_changes_the_box_that_the_potential_sees() -> None:
    atoms = bulk("Cu", cubic=True).repeat(2)
    built = openmm_system(atoms, POTENTIAL)
    built.system.addForce(openmm.MonteCarloBarostat(1e6, 300.0, 1))  # bar: it must shrink
    running = context(built)
    running.getIntegrator().step(60)
    box = np.array(running.getState().getPeriodicBoxVectors()._value) / ANGSTROM_IN_NM
    assert np.linalg.det(box) < 0.99 * atoms.get_volume()


def test_what_openmm_or_the_potential_cannot_take_is_refused() -> None:
    with pytest.raises(StructureError, match="periodic in 2 of three directions"):
        openmm_system(fcc111("Cu", (2, 2, 2), vacuum=5.0), POTENTIAL)
    with pytest.raises(StructureError, match="does not know Cu"):
        openmm_system(bulk("Cu"), LennardJones(elements=("Au",)))
