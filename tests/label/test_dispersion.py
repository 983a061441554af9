"""D3(BJ): against the literature's behaviour, −dE/dx, and the strain derivative."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError, LabelError
from clusterflow.label.dispersion import add_d3bj, d3bj


def test_leading_term_is_minus_c6_over_r6():
    # Two argon atoms far apart: E r^6 is constant (C6 with n = 8 and damping corrections falling off).
    def e(r):
        return d3bj(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, r]])).energy

    assert e(4.0) < 0
    assert e(24.0) * 24.0**6 == pytest.approx(e(20.0) * 20.0**6, rel=0.03)


def test_forces_are_the_gradient():
    atoms = molecule("C6H6")
    atoms.rattle(0.05, seed=1)
    forces = d3bj(atoms).forces
    for index, axis in ((0, 0), (4, 2), (9, 1)):
        e = []
        for step in (1e-3, -1e-3):
            moved = atoms.copy()
            moved.positions[index, axis] += step
            e.append(d3bj(moved).energy)
        assert -(e[0] - e[1]) / 2e-3 == pytest.approx(forces[index, axis], abs=1e-6)


def test_stress_is_the_strain_derivative():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    stress = d3bj(atoms).stress
    for i, j in ((0, 0), (1, 2)):
        e = []
        for step in (1e-3, -1e-3):
            strain = np.eye(3)
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            e.append(d3bj(moved).energy)
        assert (e[0] - e[1]) / 2e-3 / atoms.get_volume() == pytest.approx(stress[i, j], abs=2e-5)


def test_adds_to_a_prediction():
    atoms = molecule("H2O")
    base = Prediction(-1.0, np.ones((3, 3)))
    total = add_d3bj(atoms, base)
    extra = d3bj(atoms)
    assert total.energy == base.energy + extra.energy
    assert total.forces == pytest.approx(base.forces + extra.forces)
    assert total.stress is None
    cell = bulk("Si")
    assert add_d3bj(cell, Prediction(0.0, np.zeros((2, 3)))).stress is None
    with_stress = add_d3bj(cell, Prediction(0.0, np.zeros((2, 3)), np.zeros((3, 3))))
    assert with_stress.stress == pytest.approx(d3bj(cell).stress)


def test_no_parameters_is_an_input_error():
    with pytest.raises(InputError, match="LDA"):
        d3bj(molecule("H2O"), "LDA")


def test_unknown_element_is_a_label_error():
    with pytest.raises(LabelError, match="atomic number 118"):
        d3bj(Atoms([118, 118], positions=[[0, 0, 0], [0, 0, 3.0]]))
