"""Each limit trips on its own, with atoms and numbers in the reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError
from clusterflow.explore.stop import BlowUpLimits, KeptBonds, SaneState, check_frame, closest_violation

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
STATE = SaneState(target_temperature_K=600.0, degrees_of_freedom=300)


def quiet(atoms, energy=0.0):
    return Prediction(energy, np.zeros((len(atoms), 3)))


def test_real_molecules_and_crystals_are_sane():
    for name in ("H2", "C2H2", "CO", "H2O", "C6H6", "HCOOH", "CH3OH"):
        atoms = molecule(name)
        assert check_frame(atoms, quiet(atoms), 600.0, STATE, BlowUpLimits()) is None, name
    for crystal in (bulk("Cu"), bulk("MgO", "rocksalt", a=4.21), bulk("C", "diamond", a=3.57)):
        assert check_frame(crystal, quiet(crystal), 600.0, STATE, BlowUpLimits()) is None


def test_overlap_names_the_atoms_and_the_limit():
    atoms = Atoms("OH2", positions=[[0, 0, 0], [0.5, 0, 0], [0, 0.97, 0]])
    reason = closest_violation(atoms, BlowUpLimits())
    assert "O0 and H1" in reason
    assert "0.500 Å" in reason
    assert "limit 0.582" in reason  # 0.6 (0.66 + 0.31)


def test_overlap_through_the_boundary_is_seen():
    atoms = Atoms("C2", positions=[[0.1, 1, 1], [9.9, 1, 1]], cell=[10, 10, 10], pbc=True)
    assert "0.200 Å" in closest_violation(atoms, BlowUpLimits())
    atoms.pbc = False
    assert closest_violation(atoms, BlowUpLimits()) is None


def test_a_slab_without_a_third_lattice_vector():
    slab = Atoms("C3", positions=[[0.1, 1, 0], [9.9, 1, 0], [5, 5, 300.0]], cell=[10, 10, 0], pbc=(True, True, False))
    assert "C0 and C1 are 0.200 Å" in closest_violation(slab, BlowUpLimits())
    slab.positions[1, 0] = 5.0
    assert closest_violation(slab, BlowUpLimits()) is None


def test_a_pair_has_its_own_limit():
    atoms = Atoms("OHC", positions=[[0, 0, 0], [0.97, 0, 0], [0, 5, 0]])
    assert closest_violation(atoms, BlowUpLimits()) is None
    assert "limit 1.100" in closest_violation(atoms, BlowUpLimits(pair_distances={"H-O": 1.1}))
    assert closest_violation(atoms, BlowUpLimits(pair_distances={"C-C": 9.0})) is None


def test_identical_positions_and_far_fliers():
    assert "0.000 Å" in closest_violation(Atoms("H2", positions=np.zeros((2, 3))), BlowUpLimits())
    far = Atoms("H3", positions=[[0, 0, 0], [0.74, 0, 0], [1e8, 1e8, 0]])
    assert closest_violation(far, BlowUpLimits()) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"temperature": 5000.0}, "temperature is 5000 K"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"force": 31.0}, "force on Cu1 is 31.0 eV/Å (limit 30 eV/Å)"),
        ({"force": float("nan")}, "NaN or infinite forces on 1 atoms (first: atom 1)"),
        ({"energy": float("inf")}, "energy inf"),
        ({"energy": 100.0}, "changed by 12.50 eV/atom"),
        ({"scale": 0.75}, "volume is 0.422 of the start"),
        ({"scale": 1.5}, "volume is 3.375 of the start"),
        ({"position": float("nan")}, "positions or cell"),
    ],
)
def test_each_limit(change, text):
    atoms = bulk("Cu", "fcc", a=3.6).repeat(2)
    state = SaneState(600.0, 3 * len(atoms), start_volume=atoms.get_volume(), last_energy=0.0)
    forces = np.zeros((len(atoms), 3))
    forces[1, 2] = change.get("force", 0.0)
    atoms.set_cell(atoms.cell.array * change.get("scale", 1.0), scale_atoms=True)
    atoms.positions[0, 0] += change.get("position", 0.0)
    found = Prediction(change.get("energy", 0.0), forces)
    reason = check_frame(atoms, found, change.get("temperature", 600.0), state, BlowUpLimits())
    assert text in reason


def test_small_molecules_may_fluctuate():
    """9 degrees of freedom reach three times the target about once in 1e4 frames; that is no blow-up."""
    atoms = molecule("H2O")
    small = SaneState(600.0, degrees_of_freedom=6)
    assert check_frame(atoms, quiet(atoms), 3000.0, small, BlowUpLimits()) is None
    assert "K at 600 K" in check_frame(atoms, quiet(atoms), 4000.0, small, BlowUpLimits())
    assert "limit 2500 K" in check_frame(atoms, quiet(atoms), 3000.0, small, BlowUpLimits(max_temperature_K=2500.0))


def test_a_broken_bond_of_the_start_is_named_and_wrapping_breaks_none():
    mof = read(STRUCTURES / "MOF-5_primitive.extxyz")
    bonds = KeptBonds.of(mof)
    assert len(bonds.i) > len(mof)
    rng = np.random.default_rng(0)
    for _ in range(3):  # warm, in a strained cell, wrapped anyhow
        warm = mof.copy()
        warm.set_cell(warm.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        warm.positions += rng.normal(0.0, 0.06, warm.positions.shape)
        warm.positions += rng.integers(-2, 3, warm.positions.shape) @ warm.cell.array
        assert bonds.broken(warm) is None
    hydrogen = int(mof.symbols.search("H")[0])
    carbon = int(next(i + j - hydrogen for i, j in zip(bonds.i, bonds.j, strict=True) if hydrogen in (i, j)))
    torn = mof.copy()
    torn.positions[hydrogen] += 1.1 * (torn.get_distance(carbon, hydrogen, mic=True, vector=True))
    a, b = sorted((carbon, hydrogen))
    reason = bonds.broken(torn)
    assert f"{torn.symbols[a]}{a}–{torn.symbols[b]}{b} has broken, 2.2" in reason
    state = SaneState(600.0, 3 * len(mof), bonds=bonds)
    assert check_frame(torn, quiet(torn), 600.0, state, BlowUpLimits()) == reason
    assert check_frame(torn, quiet(torn), 600.0, replace(state, bonds=None), BlowUpLimits()) is None


def test_molecules_and_slabs_have_bonds_too():
    water = molecule("H2O")
    bonds = KeptBonds.of(water)
    assert bonds.broken(water) is None
    water.positions[1] += 3.0
    assert "O0–H1 has broken" in bonds.broken(water)
    assert KeptBonds.of(Atoms("He")).broken(Atoms("He")) is None
    slab = Atoms("C2", positions=[[0.1, 1, 0], [9.0, 1, 0]], cell=[10, 10, 0], pbc=(True, True, False))
    bonds = KeptBonds.of(slab)
    assert len(bonds.i) == 1
    assert bonds.broken(slab) is None
    slab.positions[1, 0] = 5.0
    assert "has broken" in bonds.broken(slab)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_distance_factor": 1.5},
        {"max_temperature_factor": 0.9},
        {"max_temperature_K": -1.0},
        {"max_force": 0.0},
        {"energy_jump": float("nan")},
        {"volume_ratio": (1.2, 2.0)},
        {"check_interval": 0},
        {"pair_distances": {"HO": 1.0}},
        {"pair_distances": {"H-Qq": 1.0}},
        {"pair_distances": {"H-O": -1.0}},
    ],
)
def test_senseless_limits_are_refused(bad):
    with pytest.raises(InputError) as caught:
        BlowUpLimits(**bad)
    assert next(iter(bad)) in str(caught.value)
    assert caught.value.todo
