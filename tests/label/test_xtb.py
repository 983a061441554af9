"""xTB: forces and stress against finite differences (metals too), charge and spin, refusals."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.errors import InputError, LabelError
from clusterflow.label.xtb import XTBReference


def _label(atoms, method="GFN1-xTB", charge=0, spin=0, **settings):
    return XTBReference(method, **settings).label(atoms, charge=charge, spin=spin)


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
@pytest.mark.parametrize("metal", ["Zn", "Zr", "Hf"])
def test_forces_are_the_gradient(method, metal):
    oxygen = {"Zn": 2, "Zr": 4, "Hf": 4}[metal]
    directions = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])[:oxygen] / np.sqrt(3)
    bonds = {"Zn": 1.85, "Zr": 1.98, "Hf": 1.96}[metal]
    positions = [[0, 0, 0], *(bonds * directions), *((bonds + 0.95) * directions + 0.1)]
    atoms = Atoms([metal] + ["O"] * oxygen + ["H"] * oxygen, positions=positions)
    forces = _label(atoms, method, accuracy=0.01).prediction.forces
    for index in (0, 1, len(atoms) - 1):
        for axis in range(3):
            e = []
            for step in (1e-3, -1e-3):
                moved = atoms.copy()
                moved.positions[index, axis] += step
                e.append(_label(moved, method, accuracy=0.01).prediction.energy)
            assert -(e[0] - e[1]) / 2e-3 == pytest.approx(forces[index, axis], abs=2e-4)


def test_stress_is_the_strain_derivative():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    stress = _label(atoms, accuracy=0.01).prediction.stress
    for i, j in ((0, 0), (0, 1)):
        e = []
        for step in (1e-3, -1e-3):
            strain = np.eye(3)
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            e.append(_label(moved, accuracy=0.01).prediction.energy)
        assert (e[0] - e[1]) / 2e-3 / atoms.get_volume() == pytest.approx(stress[i, j], abs=1e-4)


def test_charge_and_spin_matter():
    water = molecule("H2O")
    neutral, cation = _label(water), _label(water, charge=1, spin=1)
    triplet = _label(water, spin=2)
    assert cation.prediction.energy - neutral.prediction.energy > 5.0  # an ionisation energy
    assert triplet.prediction.energy > neutral.prediction.energy
    assert (cation.charge, cation.spin) == (1, 1)


def test_level_of_theory():
    assert XTBReference().level_of_theory != XTBReference("GFN2-xTB").level_of_theory
    assert XTBReference().level_of_theory != XTBReference(electronic_temperature_K=1000).level_of_theory
    assert XTBReference().level_of_theory == XTBReference(max_force=10).level_of_theory


def test_unconverged_is_a_label_error(tmp_path):
    with pytest.raises(LabelError, match="not converged in 2 cycles"):
        XTBReference(max_iterations=2).label(molecule("CH3OH"), charge=0, spin=0, workdir=tmp_path)


def test_bad_input():
    with pytest.raises(InputError, match="GFN7"):
        XTBReference("GFN7")
    with pytest.raises(InputError, match="accuracy"):
        XTBReference(accuracy=0)
    with pytest.raises(InputError, match=r"parameters for U"):
        XTBReference().check_elements(["H", "U"])
    with pytest.raises(LabelError, match="unpaired"):
        _label(molecule("H2O"), spin=1)
