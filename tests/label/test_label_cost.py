"""The cost model: against measured labels, and in the right order."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.errors import InputError
from clusterflow.label.cost import all_electrons, estimate_seconds, estimate_xtb_seconds, fit_cost
from clusterflow.physics.electrons import valence_electrons


def test_electrons_of_molecules():
    assert valence_electrons(molecule("H2O").numbers).sum() == 8
    assert valence_electrons(Atoms("Zn4O13C6H6").numbers).sum() == 4 * 12 + 13 * 6 + 6 * 4 + 6
    assert valence_electrons(Atoms("HCNOFClBrIZnZr").numbers).tolist() == [1, 4, 5, 6, 7, 7, 7, 7, 12, 12]
    assert all_electrons(molecule("H2O")) == 10


@pytest.mark.parametrize(
    ("symbols", "extent", "vacuum", "measured"),
    [  # core-seconds; extent of the bounding box in Å, chosen to give the volume of the measured one
        ("C8H6O4", 4.66, 3.0, 8.9),
        ("C8H6O4", 4.66, 4.0, 13.5),
        ("Zn4O13C6H6", 9.4, 3.0, 29.3),
        ("Zn4O13C6H6", 9.4, 4.0, 38.6),
        ("Zr6O32C12H16", 10.1, 3.0, 62.2),
    ],
)
def test_against_measurements(symbols, extent, vacuum, measured):
    atoms = Atoms(symbols)
    atoms.positions = np.random.default_rng(0).uniform(0, extent, (len(atoms), 3))
    atoms.positions[0], atoms.positions[1] = 0.0, extent
    assert estimate_seconds(atoms, vacuum=vacuum) == pytest.approx(measured, rel=0.3)


def test_against_a_measured_cell():
    cell = Atoms("Zn8C48H24O26", cell=[[0, 13.0445, 13.0445], [13.0445, 0, 13.0445], [13.0445, 13.0445, 0]], pbc=True)
    assert estimate_seconds(cell) == pytest.approx(66.3, rel=0.3)


def test_more_of_anything_costs_more():
    water = molecule("H2O")
    assert estimate_seconds(water, h=0.15) > estimate_seconds(water)
    assert estimate_seconds(water, vacuum=6.0) > estimate_seconds(water)
    cell = bulk("Cu", cubic=True)
    assert estimate_seconds(cell.repeat(2)) > estimate_seconds(cell)


def test_a_fitted_cost_model_finds_the_law_behind_the_timings():
    rng = np.random.default_rng(0)
    electrons = rng.uniform(30, 900, 60)
    seconds = 2e-4 * electrons**2.6 * np.exp(rng.normal(0.0, 0.2, 60))
    model = fit_cost(electrons.tolist(), seconds.tolist())
    assert model.exponent == pytest.approx(2.6, abs=0.1)
    assert model.scatter == pytest.approx(0.2, abs=0.06)
    water = molecule("H2O")
    assert model.seconds(water) == pytest.approx(2e-4 * 8**2.6, rel=0.5)


def test_few_timings_move_the_level_and_leave_the_exponent_to_the_prior():
    model = fit_cost([100.0], [1000.0])
    assert model.exponent == pytest.approx(2.2)
    assert model.seconds(Atoms("C25")) == pytest.approx(1000.0, rel=0.05)
    assert fit_cost([], []).exponent == pytest.approx(2.2)
    assert fit_cost([], []).seconds(Atoms("C6H6")) < fit_cost([], []).seconds(Atoms("C12H10"))


def test_timings_that_are_none_are_refused():
    with pytest.raises(InputError, match="positive number"):
        fit_cost([100.0, 200.0], [10.0])
    with pytest.raises(InputError, match="positive number"):
        fit_cost([100.0], [0.0])


@pytest.mark.parametrize(
    ("symbols", "periodic", "measured"),
    [
        ("C16H34", False, 0.09),
        ("O32H64", True, 1.13),
        ("Zn8C48H24O26", True, 2.58),
        ("Zn6C48H60N24", True, 5.2),
        ("Zr6O32C48H28", True, 5.76),
        ("Zn16C96H48O52", True, 13.9),
    ],
)
def test_xtb_against_measurements(symbols, periodic, measured):
    found = estimate_xtb_seconds(Atoms(symbols, pbc=periodic))
    assert measured / 1.65 < found < 1.65 * measured
