"""Periodic bond graphs and the check for overlapping atoms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.errors import StructureError
from clusterflow.physics.bonds import bond_graph, check_distances

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def pairs(atoms: Atoms) -> Counter[tuple[str, str]]:
    graph = bond_graph(atoms)
    symbols = atoms.get_chemical_symbols()
    both = Counter(tuple(sorted((symbols[i], symbols[j]))) for i, j in zip(graph.i, graph.j, strict=True))
    return Counter({pair: count // 2 for pair, count in both.items()})


# Per formula unit: UiO-66 has 8 Zr–O per Zr; MOF-5 has 4 Zn–O per Zn; six terephthalates in either primitive cell.
EXPECTED = {
    "UiO-66_primitive": {("O", "Zr"): 48, ("C", "C"): 48, ("C", "H"): 24, ("C", "O"): 24, ("H", "O"): 4},
    "MOF-5_primitive": {("O", "Zn"): 32, ("C", "C"): 48, ("C", "H"): 24, ("C", "O"): 24},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_bonds_of_real_frameworks(name: str) -> None:
    assert pairs(read(STRUCTURES / f"{name}.extxyz")) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("seed", range(8))
def test_organic_bonds_survive_hot_geometries(name: str, seed: int) -> None:
    """0.08 Å per component and 3 % strain are more than 600 K does to a bond. Metal–O may stretch out of reach."""
    rng = np.random.default_rng(seed)
    atoms = read(STRUCTURES / f"{name}.extxyz")
    strain = rng.normal(0.0, 0.03, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0.0, 0.08, size=atoms.positions.shape)
    found, expected = pairs(atoms), EXPECTED[name]
    for pair in (("C", "C"), ("C", "H"), ("C", "O"), ("H", "O")):
        assert found[pair] == expected.get(pair, 0)
    assert set(found) <= set(expected)
    metal = next(pair for pair in expected if pair[1] in ("Zr", "Zn"))
    assert 0.95 * expected[metal] <= found[metal] <= expected[metal]


def test_graph_lists_both_directions_with_opposite_shifts_and_right_distances() -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    graph = bond_graph(atoms)
    forward = {(i, j, *s) for i, j, s in zip(graph.i.tolist(), graph.j.tolist(), graph.shift.tolist(), strict=True)}
    assert forward == {(j, i, -x, -y, -z) for i, j, x, y, z in forward}
    vectors = atoms.positions[graph.j] + graph.shift @ atoms.cell.array - atoms.positions[graph.i]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), graph.distance, atol=1e-10)
    zr = int(np.flatnonzero(atoms.numbers == 40)[0])
    assert len(graph.neighbours(zr)) == 8
    assert set(atoms.numbers[graph.neighbours(zr)]) == {8}


@given(st.lists(st.integers(-2, 2), min_size=114 * 3, max_size=114 * 3), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_bonds_do_not_depend_on_images_or_order(cells: list[int], seed: int) -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    moved = atoms.copy()
    moved.positions += np.array(cells).reshape(-1, 3) @ atoms.cell.array
    order = np.random.default_rng(seed).permutation(len(atoms))
    shuffled = bond_graph(moved[order])
    graph = bond_graph(atoms)
    assert Counter(zip(order[shuffled.i].tolist(), order[shuffled.j].tolist(), strict=True)) == Counter(
        zip(graph.i.tolist(), graph.j.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "bonds"),
    [("H2O", 2), ("C6H6", 12), ("H2", 1), ("C3H6_D3h", 9), ("C2H2", 3), ("CH3COOH", 7), ("HCN", 2), ("SiH4", 4)],
)
def test_bonds_of_molecules(name: str, bonds: int) -> None:
    assert sum(pairs(molecule(name)).values()) == bonds


def test_a_stretched_1_3_contact_is_no_bond() -> None:
    """Two carbons 1.9 Å apart are bonded, unless a third sits between them."""
    apart = Atoms("CC", positions=[[0, 0, 0], [1.9, 0, 0]])
    bridged = Atoms("CCC", positions=[[0, 0, 0], [1.9, 0, 0], [0.95, 1.0, 0]])
    assert len(bond_graph(apart).i) == 2
    assert sorted(bond_graph(bridged).neighbours(2)) == [0, 1]
    assert 1 not in bond_graph(bridged).neighbours(0)


def test_hydrogen_has_one_bond_even_when_shared() -> None:
    atoms = Atoms("OHO", positions=[[0, 0, 0], [1.15, 0, 0], [2.4, 0, 0]])
    graph = bond_graph(atoms)
    assert graph.neighbours(1).tolist() == [0]
    assert graph.neighbours(2).tolist() == []


def test_unwrap_tells_finite_from_infinite() -> None:
    ring = molecule("C6H6", cell=[8.0, 8.0, 8.0], pbc=True)
    ring.positions += [7.5, 0.2, 7.9]
    ring.wrap()
    labels, offsets, infinite = bond_graph(ring).unwrap()
    assert set(labels) == {0}
    assert not infinite.any()
    whole = ring.positions + offsets @ ring.cell.array
    reference = molecule("C6H6")
    assert np.ptp(whole, axis=0) == pytest.approx(np.ptp(reference.positions, axis=0), abs=1e-8)

    chain = Atoms("C", positions=[[0.2, 0, 0]], cell=[1.5, 9, 9], pbc=True)
    assert bond_graph(chain).unwrap()[2].tolist() == [True]


def test_overlap_names_atoms_elements_distance_and_limit() -> None:
    atoms = Atoms("OHH", positions=[[0.1, 0, 0], [4.9, 0, 0], [0, 0.9, 0]], cell=[5, 5, 5], pbc=True)
    with pytest.raises(StructureError) as error:
        check_distances(atoms)
    assert "O0–H1 0.200 Å (limit 0.533 Å)" in str(error.value)
    assert error.value.todo
    check_distances(atoms, factor=0.2)


def test_overlap_sees_coincident_atoms_and_own_images() -> None:
    with pytest.raises(StructureError, match=r"C0–C1 0\.000 Å"):
        check_distances(Atoms("CC", positions=[[1, 1, 1], [1, 1, 1]]))
    with pytest.raises(StructureError, match=r"C0–C0 0\.500 Å"):
        check_distances(Atoms("C", cell=[0.5, 5, 5], pbc=True))


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("C", positions=[[np.nan, 0, 0]]), "not finite"),
        (Atoms("C", cell=[0, 0, 0], pbc=True), "no volume"),
        (Atoms("C", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "no volume"),
    ],
)
def test_impossible_input(atoms: Atoms, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        bond_graph(atoms)


def test_empty_and_single_atoms_have_no_bonds() -> None:
    assert bond_graph(Atoms()).n_atoms == 0
    assert len(bond_graph(Atoms("Zn")).i) == 0
    check_distances(Atoms("Zn"))
