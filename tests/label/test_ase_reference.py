"""Any ASE calculator by name: no evaluation of text, clear refusals."""

import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.errors import InputError, LabelError
from clusterflow.label.ase_reference import ASEReference

EMT = "ase.calculators.emt:EMT"
LJ = "ase.calculators.lj:LennardJones"


def test_agrees_with_the_calculator_itself(tmp_path):
    from ase.calculators.lj import LennardJones

    atoms = Atoms("Ar3", positions=[[0, 0, 0], [0, 0, 3.8], [0, 3.7, 0]])
    label = ASEReference(LJ, {"sigma": 3.4, "epsilon": 0.0104, "rc": 12.0}).label(
        atoms, charge=0, spin=0, workdir=tmp_path
    )
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=12.0)
    assert label.prediction.energy == atoms.get_potential_energy()
    assert label.prediction.forces == pytest.approx(atoms.get_forces())
    assert label.prediction.stress is None


def test_stress_of_a_periodic_cell(tmp_path):
    label = ASEReference(EMT).label(bulk("Cu", a=3.7), charge=0, spin=0, workdir=tmp_path)
    assert label.prediction.stress is not None
    assert label.prediction.stress[0, 0] > 0  # stretched: tension is positive


def test_level_holds_name_arguments_and_version():
    a = ASEReference(LJ, {"sigma": 3.4, "epsilon": 1.0}).level_of_theory
    assert a == ASEReference(LJ, {"epsilon": 1.0, "sigma": 3.4}).level_of_theory
    assert LJ in a
    assert a != ASEReference(LJ, {"sigma": 3.5, "epsilon": 1.0}).level_of_theory
    assert a != ASEReference(LJ, {"sigma": 3.4, "epsilon": 1.0}, version="2").level_of_theory


@pytest.mark.parametrize(
    "path", ["EMT", "ase.calculators.emt.EMT", "__import__('os').system('x')", "a:b:c", "a b:c", ""]
)
def test_only_import_paths(path):
    with pytest.raises(InputError, match="does not name a calculator"):
        ASEReference(path)


def test_arguments_are_data():
    with pytest.raises(InputError, match="plain data"):
        ASEReference(LJ, {"sigma": object()})


@pytest.mark.parametrize("path", ["no.such.module:Thing", "ase.calculators.emt:Nothing"])
def test_not_importable(path, tmp_path):
    with pytest.raises(InputError, match="cannot be imported"):
        ASEReference(path).label(bulk("Cu"), charge=0, spin=0, workdir=tmp_path)
    with pytest.raises(InputError, match="cannot be imported"):
        ASEReference(path).check_elements(["Cu"])


def test_a_misspelled_calculator_gets_its_neighbour() -> None:
    with pytest.raises(InputError, match="has no attribute 'EMTT'") as error:
        ASEReference("ase.calculators.emt:EMTT").check_elements(["Cu"])
    assert error.value.todo == "Did you mean 'ase.calculators.emt:EMT'?"


def test_refused_arguments(tmp_path):
    reference = ASEReference("ase.calculators.tip3p:TIP3P", {"no_such_argument": 1})
    with pytest.raises(InputError, match="refuses its arguments"):
        reference.label(molecule("H2O"), charge=0, spin=0, workdir=tmp_path)


def test_unsupported_element_is_a_label_error(tmp_path):
    with pytest.raises(LabelError, match="EMT"):
        ASEReference(EMT).label(molecule("SiH4"), charge=0, spin=0, workdir=tmp_path)


def test_charge_needs_a_keyword(tmp_path):
    with pytest.raises(LabelError, match="charge_argument"):
        ASEReference(EMT).label(bulk("Cu"), charge=1, spin=0, workdir=tmp_path)
    # tblite's own ASE calculator takes the charge by keyword.
    xtb = ASEReference(
        "tblite.ase:TBLite", {"method": "GFN1-xTB", "verbosity": 0}, charge_argument="charge", max_net_force=0.1
    )
    anion = xtb.label(molecule("OH"), charge=-1, spin=0, workdir=tmp_path)
    assert anion.prediction.energy < -100
