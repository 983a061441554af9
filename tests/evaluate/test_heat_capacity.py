"""Heat capacities of EMT crystals against phonopy, and what is reported of modes that do not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError, ScienceError
from clusterflow.evaluate import heat_capacity
from clusterflow.evaluate.calculator_potential import as_potential
from clusterflow.evaluate.relaxation import relax
from clusterflow.physics.vibrations import GAS_CONSTANT, Modes, harmonic_modes
from clusterflow.physics.vibrations import heat_capacity as thermal
from clusterflow.testing.analytic_potentials import SpringNetwork
from clusterflow.testing.phonopy_reference import phonopy_thermal

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def relaxed(atoms: Atoms) -> Atoms:
    return relax(atoms, as_potential(EMT()), freedom="cell", fmax=1e-5).atoms


@pytest.fixture(scope="module")
def alloy() -> Atoms:
    """Cu₃Au, with an atom exchanged so that little symmetry is left."""
    atoms = bulk("Cu", cubic=True, a=3.75)
    atoms.numbers[0] = 79
    return relaxed(atoms)


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 2, 1)])
def test_equal_to_phonopy(alloy: Atoms, repeat: tuple[int, int, int]) -> None:
    """C_V, F and S of the commensurate waves within 0.1 % of phonopy's on the same potential."""
    t = [50.0, 300.0, 800.0]
    ours = heat_capacity.compute(alloy, EMT(), freedom="nothing", repeats=[repeat], temperatures=t)
    theirs = phonopy_thermal(alloy, EMT(), repeat, t, cutoff=heat_capacity.LOWEST)
    columns = ours.curves["temperature"].columns
    assert columns["C_V per cell [J/(mol K)]"] == pytest.approx(theirs["heat_capacity"], rel=1e-3)
    assert columns["entropy per cell [J/(mol K)]"] == pytest.approx(theirs["entropy"], rel=1e-3)
    assert columns["free energy per cell [eV]"] == pytest.approx(theirs["free_energy"], rel=1e-3)


@pytest.mark.parametrize("name", ["MOF-5_primitive", "UiO-66_primitive"])
def test_frameworks_equal_phonopy_and_the_closed_form(name: str) -> None:
    """MOF-5 (106 atoms) and UiO-66 (114) on springs, as they are in the file: for phonopy they have no symmetry."""
    atoms = read_frames(STRUCTURES / f"{name}.extxyz")[0]
    springs = SpringNetwork.of(atoms)
    t = [100.0, 300.0]
    ours = heat_capacity.compute(atoms, springs, freedom="nothing", displacement=1e-4, temperatures=t)
    found = ours.curves["temperature"].columns["C_V per cell [J/(mol K)]"]
    modes = harmonic_modes(atoms, springs.hessian_at_rest(atoms))
    exact = thermal(heat_capacity.real_modes(modes), np.array(t)) * GAS_CONSTANT
    assert ours.quantities["imaginary modes"].value == 0
    assert ours.quantities["lowest mode"].value == pytest.approx(modes.wavenumbers[0], abs=0.1)
    assert found == pytest.approx(exact, rel=1e-6)
    theirs = phonopy_thermal(atoms, springs.calculator(), (1, 1, 1), t, cutoff=heat_capacity.LOWEST)
    assert found == pytest.approx(theirs["heat_capacity"], rel=1e-3)


def test_supercells_converge_towards_dulong_petit() -> None:
    atoms = relaxed(bulk("Cu", cubic=True))
    found = heat_capacity.compute(
        atoms, EMT(), freedom="nothing", repeats=[(1, 1, 1), (2, 2, 2), (3, 3, 3)], temperature=3000.0
    )
    q = found.quantities
    missing = 3.0 / (3 * 108)  # the acoustic modes of Γ
    assert q["C_V per atom"].value == pytest.approx(3.0 * (1.0 - missing), rel=2e-3)
    assert q["modes"].value == 321
    series = found.curves["supercells"].columns["c_V [J/(g K)]"]
    assert list(series) == sorted(series)
    assert q["c_V"].uncertainty == pytest.approx(series[2] - series[1])
    assert any("Not converged with the cell" in n for n in found.notes)
    assert q["imaginary modes"].value == 0
    assert q["acoustic residual"].value < 1e-9


def test_a_single_cell_has_an_error_and_says_that_size_was_not_tested() -> None:
    atoms = relaxed(bulk("Cu", cubic=True))
    for repeat, words in (((1, 1, 1), "One cell only"), ((2, 2, 2), "One supercell, 2×2×2, only")):
        found = heat_capacity.compute(atoms, EMT(), freedom="nothing", repeats=[repeat])
        floor = 3.0 / np.prod(repeat) / len(atoms)  # the translations, k_B per atom
        assert found.quantities["C_V per atom"].uncertainty == pytest.approx(floor)
        assert any(words in n and "finite size was not tested" in n for n in found.notes)


def test_imaginary_modes_are_counted_reported_and_left_out() -> None:
    """A straight chain under compression buckles; it was not relaxed, so it is no minimum."""
    atoms = Atoms("Cu4", [[1.9 * i, 0.02 * (i % 2), 0.01 * i * i] for i in range(4)])
    found = heat_capacity.compute(atoms, EMT(), freedom="nothing")
    q = found.quantities
    assert q["imaginary modes"].value >= 1
    assert q["lowest mode"].value < 0
    assert q["modes excluded"].value >= q["imaginary modes"].value
    assert q["modes"].value == 6
    assert any("imaginary" in n for n in found.notes)
    # what is left out could hold k_B each, and that is the uncertainty
    assert q["C_V per atom"].uncertainty == pytest.approx(q["modes excluded"].value / 4)


def test_modes_below_the_limit_do_not_count() -> None:
    atoms = molecule("CO2")
    modes = Modes(np.array([-20.0, 0.5, 30.0, 2000.0]), 1, 5, 0.0, 0.0)
    cell = heat_capacity.Cell((1, 1, 1), "float64", modes)
    found = heat_capacity.heat_capacity_result(atoms, [cell], lowest=40.0)
    assert found.quantities["modes excluded"].value == 3
    assert found.quantities["imaginary modes"].value == 1
    looser = heat_capacity.heat_capacity_result(atoms, [cell], lowest=0.0)
    assert looser.quantities["modes excluded"].value == 1
    with pytest.raises(ScienceError, match="no mode above 3000"):
        heat_capacity.heat_capacity_result(atoms, [cell], lowest=3000.0)


def test_a_scaling_factor_is_fitted_to_references(alloy: Atoms) -> None:
    plain = heat_capacity.compute(alloy, EMT(), freedom="nothing", temperature=150.0)
    scaled = heat_capacity.compute(alloy, EMT(), freedom="nothing", temperature=150.0, scaling=1.2)
    target = scaled.quantities["c_V"].value
    assert target < plain.quantities["c_V"].value
    fitted = heat_capacity.compute(alloy, EMT(), freedom="nothing", temperature=150.0, references=[(150.0, target)])
    assert fitted.quantities["scaling factor"].value == pytest.approx(1.2, abs=1e-3)
    assert fitted.quantities["c_V"].value == pytest.approx(target, rel=1e-4)
    assert fitted.quantities["c_V, not scaled"].value == pytest.approx(plain.quantities["c_V"].value)


def test_blocks_of_rows_are_the_whole() -> None:
    atoms, potential = bulk("Cu", cubic=True), as_potential(EMT())
    assert heat_capacity.row_blocks(4, 3) == [(0, 3), (3, 4)]
    parts = [heat_capacity.hessian_rows(atoms, potential, range(*b), (2, 1, 1)) for b in heat_capacity.row_blocks(4, 3)]
    whole = heat_capacity.hessian_rows(atoms, potential, range(4), (2, 1, 1))
    assert np.concatenate(parts) == pytest.approx(whole, abs=1e-9)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not periodic along a"):
        heat_capacity.compute(molecule("H2O"), EMT(), repeats=[(2, 1, 1)])
    stretched = Atoms("N2", [[0, 0, 0], [0, 0, 1.3]])
    with pytest.raises(ScienceError, match="did not converge in 1 steps"):
        heat_capacity.compute(stretched, EMT(), max_steps=1)
