"""Every Reference passes the conformance suite of its Protocol."""

import pytest
from ase.build import bulk, molecule

from clusterflow.label.ase_reference import ASEReference
from clusterflow.label.gpaw import GPAWReference
from clusterflow.label.xtb import XTBReference
from clusterflow.testing import contracts


def _rattled(atoms, seed=3, size=0.05):
    atoms.rattle(size, seed=seed)
    return atoms


CHEAP = {
    "GFN1-xTB": (XTBReference("GFN1-xTB"), _rattled(molecule("CH3OH"))),
    "GFN2-xTB": (XTBReference("GFN2-xTB"), _rattled(molecule("CH3OH"))),
    "GFN1-xTB periodic": (XTBReference("GFN1-xTB"), _rattled(bulk("Si", cubic=True))),
    "ASE EMT": (ASEReference("ase.calculators.emt:EMT"), _rattled(bulk("Cu", cubic=True).repeat((2, 1, 1)))),
}


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_references(name, tmp_path):
    reference, atoms = CHEAP[name]
    contracts.check_reference_level(reference)
    label = contracts.check_reference_label(reference, atoms, tmp_path)
    assert (label.prediction.stress is not None) == bool(atoms.pbc.all())
    contracts.check_reference_forces(reference, atoms, tmp_path, atom=1, step=1e-3, tolerance=1e-4)
    contracts.check_reference_relabelling(reference, atoms, tmp_path)
    contracts.check_reference_refuses_nonsense(reference, atoms, tmp_path)


def test_gpaw(tmp_path):
    reference = GPAWReference.quick(h=0.25, vacuum=2.5, time_limit=120)
    water = _rattled(molecule("H2O"))
    contracts.check_reference_level(reference)
    contracts.check_reference_label(reference, water, tmp_path)
    contracts.check_reference_refuses_nonsense(reference, water, tmp_path)
