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
from clusterflow.physics.bonds import FORM, HOLD, BondGraph, bond_graph, bond_limits, check_distances

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


def zinc_oxygen(distance: float) -> Atoms:
    return Atoms("ZnO", positions=[[0, 0, 0], [distance, 0, 0]])


def test_a_bond_that_vibrates_across_its_limit_does_not_flicker() -> None:
    limit = float(bond_limits(np.array([30]), np.array([8]))[0])
    lengths = limit * (1.0 + 0.08 * np.sin(np.linspace(0.0, 6 * np.pi, 40)))
    without = [len(bond_graph(zinc_oxygen(d)).i) for d in lengths]
    assert len(set(without)) == 2
    for start, bonds in ((0.9 * limit, 2), (1.05 * limit, 0)):
        graph = bond_graph(zinc_oxygen(start))
        seen = []
        for d in np.maximum(lengths, 0.96 * limit):
            graph = bond_graph(zinc_oxygen(d), graph)
            seen.append(len(graph.i))
        assert set(seen) == {bonds}


def test_bonds_break_and_form_beyond_both_limits() -> None:
    limit = float(bond_limits(np.array([30]), np.array([8]))[0])
    bound, free = bond_graph(zinc_oxygen(0.9 * limit)), bond_graph(zinc_oxygen(2 * limit))
    for factor, kept, formed in ((FORM - 0.01, 2, 2), (1.0, 2, 0), (HOLD - 0.01, 2, 0), (HOLD + 0.01, 0, 0)):
        assert len(bond_graph(zinc_oxygen(factor * limit), bound).i) == kept
        assert len(bond_graph(zinc_oxygen(factor * limit), free).i) == formed


def test_a_shared_proton_stays_until_it_is_clearly_over() -> None:
    def at(x: float) -> Atoms:
        return Atoms("OHO", positions=[[0, 0, 0], [x, 0, 0], [2.4, 0, 0]])

    graph = bond_graph(at(1.0))
    for x in (1.15, 1.25):  # beyond the middle, 1.2 Å, it has not changed sides yet
        graph = bond_graph(at(x), graph)
        assert graph.neighbours(1).tolist() == [0]
    graph = bond_graph(at(1.4), graph)
    assert graph.neighbours(1).tolist() == [2]
    graph = bond_graph(at(1.15), graph)
    assert graph.neighbours(1).tolist() == [2]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_previous_frame_may_be_wrapped_otherwise(name: str) -> None:
    """With hysteresis a hot trajectory keeps the bonds of the crystal, metal–O too, however its atoms are wrapped."""
    atoms = read(STRUCTURES / f"{name}.extxyz")
    start = bond_graph(atoms)
    rng = np.random.default_rng(3)
    graph = start
    for _ in range(3):
        frame = atoms.copy()
        frame.positions += rng.normal(0.0, 0.06, size=frame.positions.shape) + rng.uniform(0, 9, size=3)
        frame.wrap()
        graph = bond_graph(frame, graph)
        assert Counter(zip(graph.i.tolist(), graph.j.tolist(), strict=True)) == Counter(
            zip(start.i.tolist(), start.j.tolist(), strict=True)
        )
        vectors = frame.positions[graph.j] + graph.shift @ frame.cell.array - frame.positions[graph.i]
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(graph.distance)


def test_a_small_cell_keeps_the_number_of_its_bonds() -> None:
    """One atom bonded to its own images: pairs are told apart by their lengths."""
    chain = Atoms("C", positions=[[0.2, 0, 0]], cell=[1.5, 9, 9], pbc=True)
    graph = bond_graph(chain)
    chain.set_cell([1.6, 9, 9], scale_atoms=True)
    assert len(bond_graph(chain, graph).i) == len(graph.i) == 2


def test_the_previous_graph_must_have_the_same_atoms() -> None:
    with pytest.raises(StructureError, match="previous frame has 2 atoms, this one 3"):
        bond_graph(Atoms("OHO", positions=[[0, 0, 0], [1, 0, 0], [2, 0, 0]]), bond_graph(zinc_oxygen(2.0)))


def test_a_metal_is_not_bonded_to_what_its_donor_carries() -> None:
    """V–O–P at 140°: vanadium and phosphorus are 3.2 Å apart, closer than 1.3 sums of radii."""
    angle = np.deg2rad(140.0)
    atoms = Atoms("VOP", positions=[[1.95, 0, 0], [0, 0, 0], [1.53 * np.cos(angle), 1.53 * np.sin(angle), 0]])
    assert pairs(atoms) == {("O", "V"): 1, ("O", "P"): 1}
    phosphine = Atoms("VP", positions=[[0, 0, 0], [2.5, 0, 0]])
    assert pairs(phosphine) == {("P", "V"): 1}


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_reverse_and_once_are_consistent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = Atoms("C6", positions=rng.uniform(0, 3, size=(6, 3)), cell=[3.0, 3.0, 3.0], pbc=True)
    graph: BondGraph = bond_graph(atoms)
    back = graph.reverse
    assert np.array_equal(back[back], np.arange(len(back)))
    assert np.array_equal(graph.i[back], graph.j)
    assert np.array_equal(graph.shift[back], -graph.shift)
    assert 2 * graph.once.sum() == len(graph.i)
