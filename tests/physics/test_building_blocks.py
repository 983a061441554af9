"""Partition of frameworks into nodes, linkers and molecules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.errors import StructureError
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.building_blocks import find_blocks

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def kinds(atoms: Atoms) -> Counter[tuple[str, str]]:
    blocks = find_blocks(atoms)
    return Counter(zip(blocks.kinds, blocks.formulas, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UiO-66_primitive", {("node", "C12H4O32Zr6"): 1, ("linker", "C6H4"): 6}),
        ("UiO-66_conventional", {("node", "C12H4O32Zr6"): 4, ("linker", "C6H4"): 24}),
        ("MOF-5_primitive", {("node", "C6O13Zn4"): 2, ("linker", "C6H4"): 6}),
    ],
)
def test_partition_of_frameworks(name: str, expected: dict[tuple[str, str], int]) -> None:
    atoms = read(STRUCTURES / f"{name}.extxyz")
    assert kinds(atoms) == expected
    blocks = find_blocks(atoms)
    assert np.array_equal(
        np.sort(np.concatenate([blocks.members(b) for b in range(len(blocks.kinds))])), np.arange(len(atoms))
    )
    assert not blocks.infinite.any()
    assert len(blocks.cut_atoms) == 2 * expected["linker", "C6H4"]
    first, second = blocks.cut_atoms.T
    assert set(atoms.numbers[blocks.cut_atoms.ravel()]) == {6}
    assert {blocks.kinds[b] for b in blocks.labels[first]} == {"node"}
    assert {blocks.kinds[b] for b in blocks.labels[second]} == {"linker"}
    lengths = atoms.positions[second] + blocks.cut_shifts @ atoms.cell.array - atoms.positions[first]
    assert np.linalg.norm(lengths, axis=1) == pytest.approx(1.5, abs=0.08)


def test_links_are_the_same_from_both_sides() -> None:
    blocks = find_blocks(read(STRUCTURES / "UiO-66_primitive.extxyz"))
    node = blocks.kinds.index("node")
    assert len(blocks.links[node]) == 12
    assert len(blocks.neighbours(node)) == 6
    seen = {(own, other, b, image) for b in range(7) for own, other, _, image in blocks.links[b]}
    for own, other, block, (x, y, z) in seen:
        back = int(blocks.labels[other])
        assert (other, own, back, (-x, -y, -z)) in seen
        assert block == int(blocks.labels[own])


def test_blocks_are_whole_in_their_own_position() -> None:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    blocks = find_blocks(atoms)
    whole = atoms.positions + blocks.offsets @ atoms.cell.array
    for b, kind in enumerate(blocks.kinds):
        piece = Atoms(numbers=atoms.numbers[blocks.members(b)], positions=whole[blocks.members(b)])
        assert set(bond_graph(piece).components()) == {0}
        diameter = piece.get_all_distances().max()
        assert diameter < (5.1 if kind == "linker" else 9.0)


def test_free_molecules_in_the_pores_are_blocks_of_their_own() -> None:
    atoms = read(STRUCTURES / "UiO-66_conventional.extxyz")
    water = molecule("H2O")
    pore = _emptiest_point(atoms)
    water.positions += pore - water.positions.mean(axis=0)
    found = kinds(atoms + water)
    assert found["molecule", "H2O"] == 1
    assert found["linker", "C6H4"] == 24


def _emptiest_point(atoms: Atoms) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)[:-1]] * 3), axis=-1).reshape(-1, 3) @ atoms.cell.array
    probe = atoms + Atoms("X" * len(grid), positions=grid)
    distance = [probe.get_distances(len(atoms) + k, range(len(atoms)), mic=True).min() for k in range(len(grid))]
    return grid[int(np.argmax(distance))]


def test_coordinated_water_and_formate_belong_to_the_node() -> None:
    """A terminal ligand stays with its node; a formate keeps its hydrogen."""
    formate = Atoms("ZnOCHO", positions=[[0, 0, 0], [1.95, 0, 0], [2.6, 1.1, 0], [3.7, 1.1, 0], [1.95, 2.2, 0]])
    formate += Atoms("OHH", positions=[[-2.0, 0, 0], [-2.5, 0.8, 0], [-2.5, -0.8, 0]])
    blocks = find_blocks(formate)
    assert blocks.kinds == ("molecule",)
    assert blocks.formulas == ("CH3O3Zn",)


@pytest.mark.parametrize("name", ["C6H6", "CH3COOH", "H2O"])
def test_a_molecule_is_one_block(name: str) -> None:
    blocks = find_blocks(molecule(name))
    assert blocks.kinds == ("molecule",)
    assert len(blocks.cut_atoms) == 0
    assert len(blocks.neighbours(0)) == 0


def test_no_bonds_across_the_cell() -> None:
    atoms = read(STRUCTURES / "UiO-66_conventional.extxyz")
    atoms.set_cell(atoms.cell.array * 1.4)  # positions kept: as if the cell came from another file
    with pytest.raises(StructureError, match="no bonds across the cell") as error:
        find_blocks(atoms)
    assert "pbc to false" in error.value.todo


def test_positions_in_nanometres_are_not_taken_for_a_framework() -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    atoms.set_cell(atoms.cell.array * 10.0, scale_atoms=True)
    with pytest.raises(StructureError, match="no bonds across the cell"):
        find_blocks(atoms)


def test_a_rod_is_marked_as_infinite() -> None:
    """An endless …–Mg–O–Mg–O–… with an acetate on it: endless node, finite methyl."""
    rod = Atoms("MgO", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[4.0, 12, 25], pbc=True)
    rod += Atoms("OCO", positions=[[0, 1.1, 2.0], [0, 0, 2.6], [0, -1.1, 2.0]])
    rod += Atoms("CHHH", positions=[[0, 0, 4.1], [0, 1.0, 4.5], [0.9, -0.5, 4.5], [-0.9, -0.5, 4.5]])
    blocks = find_blocks(rod)
    assert blocks.kinds == ("node", "linker")
    assert blocks.formulas == ("CMgO3", "CH3")
    assert blocks.infinite.tolist() == [True, False]


def test_frameworks_of_other_chemistry_are_refused_by_name() -> None:
    diamond = Atoms("C8", scaled_positions=_DIAMOND, cell=[3.567] * 3, pbc=True)
    with pytest.raises(StructureError, match="infinite part without metals"):
        find_blocks(diamond)
    bridge = Atoms("ZnNCN", positions=[[0, 0, 0], [2.0, 0, 0], [3.2, 0, 0], [4.4, 0, 0]], cell=[6.4, 9, 9], pbc=True)
    with pytest.raises(StructureError, match=r"bridge metals by a group that is not carboxylate.*CN2, by atom N"):
        find_blocks(bridge)


_DIAMOND = [
    (0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0),
    (0.25, 0.25, 0.25), (0.25, 0.75, 0.75), (0.75, 0.25, 0.75), (0.75, 0.75, 0.25),
]  # fmt: skip
