import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.core.data import Label
from clusterflow.errors import LabelError, LabelTimeoutError
from clusterflow.execution.reference_forces import stored_forces
from clusterflow.label.xtb import XTBReference
from clusterflow.physics.hessian import acoustic_residual, asymmetry, central_difference_rows
from clusterflow.state.labels import LabelStore
from clusterflow.testing.analytic_potentials import LennardJones


class Counting:
    """A level of theory that counts its calculations, and is stopped or fails at a given one."""

    level_of_theory = "Lennard-Jones"

    def __init__(self, stop_at=None, error=KeyboardInterrupt):
        self.done, self.stop_at, self.error = 0, stop_at, error

    def label(self, atoms, *, charge, spin, workdir):
        (workdir / "scratch.txt").write_text("half done")
        if self.done == self.stop_at:
            raise self.error("stopped here")
        self.done += 1
        return Label(LennardJones().predict([atoms])[0], self.level_of_theory, charge, spin, 1, 0.1)


@pytest.fixture
def atoms():
    return Atoms("Ar3", positions=[[0, 0, 0], [3.6, 0.2, 0.1], [0.3, 3.9, 0.4]])


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "labels")


def test_a_stopped_hessian_goes_on_where_it_was(atoms, store, tmp_path):
    straight = central_difference_rows(lambda a: LennardJones().predict([a])[0].forces, atoms, step=0.01)
    first = Counting(stop_at=7)
    with pytest.raises(KeyboardInterrupt):
        central_difference_rows(stored_forces(first, store, workdir=tmp_path / "work"), atoms, step=0.01)
    assert store.count() == first.done == 7
    second = Counting()
    rows = central_difference_rows(stored_forces(second, store, workdir=tmp_path / "work"), atoms, step=0.01)
    assert second.done == 18 - 7
    np.testing.assert_array_equal(rows, straight)
    assert list((tmp_path / "work").iterdir()) == []
    third = Counting(stop_at=0)
    again = central_difference_rows(stored_forces(third, store, workdir=tmp_path / "work"), atoms, step=0.01)
    np.testing.assert_array_equal(again, straight)
    assert third.done == 0


def test_charge_and_spin_are_part_of_what_is_stored(atoms, store, tmp_path):
    for charge, spin in ((0, 0), (1, 1), (0, 0)):
        reference = Counting()
        stored_forces(reference, store, charge=charge, spin=spin, workdir=tmp_path)(atoms)
    assert store.count() == 2
    assert reference.done == 0


def test_a_failed_calculation_is_recorded_and_not_repeated(atoms, store, tmp_path):
    with pytest.raises(LabelError, match="stopped here"):
        stored_forces(Counting(stop_at=0, error=LabelError), store, workdir=tmp_path / "w")(atoms)
    fine = Counting()
    with pytest.raises(LabelError, match="stopped here"):
        stored_forces(fine, store, workdir=tmp_path / "w")(atoms)
    assert fine.done == 0


def test_a_time_out_is_not_recorded(atoms, store, tmp_path):
    with pytest.raises(LabelTimeoutError):
        stored_forces(Counting(stop_at=0, error=LabelTimeoutError), store, workdir=tmp_path / "w")(atoms)
    assert stored_forces(Counting(), store, workdir=tmp_path / "w")(atoms).shape == (3, 3)


def test_xtb_through_the_store_gives_a_physical_hessian(store, tmp_path):
    water = molecule("H2O")
    forces = stored_forces(XTBReference(), store, workdir=tmp_path / "work")
    rows = central_difference_rows(forces, water, [0, 1, 2], step=0.005)
    assert store.count() == 18
    assert asymmetry(rows) < 0.02
    assert acoustic_residual(rows) < 0.02
    assert 20.0 < rows[0, 2, 0, 2] < 80.0  # oxygen along the axis against two stiff O–H bonds
