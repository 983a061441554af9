"""Every explorer against the conformance suite, periodic and not, at constant volume and constant pressure."""

import pytest
from ase.build import bulk, molecule

from clusterflow.core.protocols import Potential
from clusterflow.explore.ase_md import ASEExplorer
from clusterflow.explore.openmm_md import OpenMMExplorer
from clusterflow.testing.analytic_potentials import EinsteinCrystal, LennardJones
from clusterflow.testing.explorer_contract import EXPLORER_CHECKS, NaNAfter

LENGTH = {"steps": 60, "frame_interval": 20, "timestep_fs": 2.0}

EXPLORERS = {
    "openmm-nvt": OpenMMExplorer(60.0, None, **LENGTH),
    "openmm-nvt-reference": OpenMMExplorer(60.0, None, platform="Reference", **LENGTH),
    "openmm-affine": OpenMMExplorer(60.0, 0.1, barostat_interval=5, **LENGTH),
    "openmm-own-barostat": OpenMMExplorer(60.0, -0.05, barostat_interval=5, barostat="openmm", **LENGTH),
    "ase-nvt": ASEExplorer(60.0, None, **LENGTH),
    "ase-npt": ASEExplorer(60.0, 0.1, **LENGTH),
}


def argon():
    """27 atoms in a triclinic cell that is neither aligned nor right-handed."""
    atoms = bulk("Ar", "fcc", a=5.3).repeat(3)
    atoms.rotate(25, (1, 2, 3), rotate_cell=True)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]], scale_atoms=False)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("check", EXPLORER_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", EXPLORERS)
def test_crystal(name, check, tmp_path):
    check(EXPLORERS[name], argon(), LennardJones(cutoff=7.0), tmp_path)


@pytest.mark.parametrize("check", EXPLORER_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ["openmm-nvt", "ase-nvt"])
def test_molecule(name, check, tmp_path):
    start = molecule("C2H4")
    check(EXPLORERS[name], start, EinsteinCrystal(sites=start.positions.copy(), stiffness=3.0), tmp_path)


def test_the_test_potentials_are_potentials():
    for potential in (LennardJones(), EinsteinCrystal(), NaNAfter(LennardJones(), 1)):
        assert isinstance(potential, Potential)
