"""Lengths, angles and dihedrals against ASE's own, across boundaries, and independent of the order of atoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError
from clusterflow.physics.internal_coordinates import InternalCoordinates, atom_types, type_names

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"


def shaken(atoms: Atoms, size: float = 0.05, seed: int = 1) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.positions += np.random.default_rng(seed).normal(scale=size, size=copy.positions.shape)
    return copy


@pytest.mark.parametrize("name", ["H2O2", "CH3CH2OH", "C6H6", "trans-butane"])
def test_values_of_a_molecule_are_those_of_ase(name: str) -> None:
    start = molecule(name)
    found, atoms = InternalCoordinates.of(start), shaken(start)
    lengths, angles, dihedrals = found.values(atoms)
    assert lengths == pytest.approx([atoms.get_distance(*b) for b in found.bond_atoms.tolist()])
    assert angles == pytest.approx([atoms.get_angle(*a) for a in found.angle_atoms.tolist()])
    turns = [atoms.get_dihedral(*d) for d in found.dihedral_atoms.tolist()]
    assert dihedrals == pytest.approx([min(t, 360.0 - t) for t in turns])


def test_ethanol_has_as_many_of_each_as_on_paper() -> None:
    found = InternalCoordinates.of(molecule("CH3CH2OH"))
    # C–C: 3 × 3 dihedrals, C–O: 3 × 1; angles: 6 at each carbon, 1 at oxygen.
    assert (len(found.bond_atoms), len(found.angles), len(found.dihedrals)) == (8, 13, 12)


def test_values_across_the_boundary_are_those_of_ase() -> None:
    start = read_frames(MOF5)[0]
    found, atoms = InternalCoordinates.of(start), shaken(start)
    lengths, angles, dihedrals = found.values(atoms)
    some = np.random.default_rng(0).choice(len(angles), 40, replace=False)
    assert lengths == pytest.approx([atoms.get_distance(*b, mic=True) for b in found.bond_atoms.tolist()])
    assert angles[some] == pytest.approx([atoms.get_angle(*a, mic=True) for a in found.angle_atoms[some].tolist()])
    turns = [atoms.get_dihedral(*d, mic=True) for d in found.dihedral_atoms[some].tolist()]
    assert dihedrals[some] == pytest.approx([min(t, 360.0 - t) for t in turns], abs=1e-6)


def test_wrapping_strain_rotation_and_reflection() -> None:
    start = read_frames(MOF5)[0]
    found, atoms = InternalCoordinates.of(start), shaken(start)
    values = found.values(atoms)
    wrapped = atoms.copy()
    wrapped.positions += 0.5 * atoms.cell.array.sum(axis=0)
    wrapped.wrap()
    assert np.ptp(wrapped.positions - atoms.positions, axis=0).max() > 5.0
    mirrored = atoms.copy()
    mirrored.set_cell(-atoms.cell.array, scale_atoms=False)
    mirrored.positions *= -1.0
    turned = atoms.copy()
    turned.rotate(40.0, (1, 2, 3), rotate_cell=True)
    for same in (wrapped, mirrored, turned):
        for a, b in zip(found.values(same), values, strict=True):
            assert a == pytest.approx(b, abs=1e-6, nan_ok=True)
    larger = atoms.copy()
    larger.set_cell(1.1 * atoms.cell.array, scale_atoms=True)
    assert found.values(larger)[0] == pytest.approx(1.1 * values[0])
    assert found.values(larger)[1] == pytest.approx(values[1])


def test_a_torn_bond_is_measured_not_lost() -> None:
    atoms = molecule("CH3CH2OH")
    found = InternalCoordinates.of(atoms)
    oxygen = int(np.flatnonzero(atoms.symbols == "O")[0])
    atoms.positions[oxygen] += [0.0, 0.0, 5.0]
    lengths = found.values(atoms)[0]
    assert len(lengths) == 8
    assert lengths.max() > 5.0


def test_a_cell_of_one_atom_is_bonded_to_its_images() -> None:
    """Diamond's primitive cell: all four bonds of an atom go to images of the other one."""
    atoms = bulk("C", "diamond", a=3.57)
    lengths, angles, dihedrals = InternalCoordinates.of(atoms).values(atoms)
    assert lengths == pytest.approx(np.full(4, 3.57 * np.sqrt(3) / 4))
    assert angles == pytest.approx(np.full(12, np.degrees(np.arccos(-1 / 3))))
    assert len(dihedrals) == 4 * 9
    assert sorted(set(np.round(dihedrals, 3))) == [60.0, 180.0]


def test_a_dihedral_over_a_straight_angle_is_no_number() -> None:
    atoms = molecule("C2H2")
    found = InternalCoordinates.of(atoms)
    assert len(found.dihedrals) == 1
    assert np.isnan(found.values(atoms)[2]).all()


def test_types_do_not_depend_on_the_order_of_atoms() -> None:
    atoms = read_frames(MOF5)[0]
    order = np.random.default_rng(2).permutation(len(atoms))
    counted = []
    for a in (atoms, atoms[order]):
        found, types = InternalCoordinates.of(a), atom_types(a, "neighbours")
        for part in (found.bond_atoms, found.angle_atoms, found.dihedral_atoms):
            names, which = type_names(part, types)
            counted.append(dict(zip(names, np.bincount(which).tolist(), strict=True)))
    assert counted[:3] == counted[3:]
    assert len(set(atom_types(atoms, "neighbours"))) == 7  # as in Fig. 1 of Sharma and Sanvito
    assert set(atom_types(atoms, "element")) == {"C", "H", "O", "Zn"}
    assert counted[0]["C(COO)-O(CZn)"] == 24


def test_no_bonds_at_all() -> None:
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 9.0]])
    found = InternalCoordinates.of(atoms)
    assert [len(v) for v in found.values(atoms)] == [0, 0, 0]
    assert type_names(found.bond_atoms, atom_types(atoms, "element"))[0] == []


def test_frames_of_something_else_are_refused() -> None:
    found = InternalCoordinates.of(molecule("H2O"))
    with pytest.raises(InputError, match="not one of the reference"):
        found.values(molecule("CO2"))
    bad = molecule("H2O")
    bad.positions[1, 2] = np.nan
    with pytest.raises(InputError, match="not finite"):
        found.values(bad)
    with pytest.raises(InputError, match="'color' is no way"):
        atom_types(bad, "color")
