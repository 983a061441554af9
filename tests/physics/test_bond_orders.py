"""Bond orders of known molecules, and the valence of every atom as a check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.physics.bond_orders import BondOrders, bond_orders
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.elements import is_metal
from clusterflow.physics.rings import ring_bonds
from clusterflow.testing import structures

ROOT = Path(__file__).parents[2]


def perceive(atoms: Atoms) -> tuple[BondGraph, BondOrders]:
    graph = bond_graph(atoms)
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metal = is_metal(numbers)
    ring = ring_bonds(graph, ~metal[graph.i] & ~metal[graph.j])
    return graph, bond_orders(numbers, graph, metal, ring)


def multiple(atoms: Atoms) -> dict[str, int]:
    graph, found = perceive(atoms)
    bonds = [
        "".join(sorted((atoms.symbols[i], atoms.symbols[j]))) + "?-=#"[order]
        for i, j, order in zip(graph.i.tolist(), graph.j.tolist(), found.order.tolist(), strict=True)
        if i < j and order > 1
    ]
    return {bond: bonds.count(bond) for bond in bonds}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C2H6", {}),
        ("C2H4", {"CC=": 1}),
        ("C2H2", {"CC#": 1}),
        ("butadiene", {"CC=": 2}),
        ("C3H4_D2d", {"CC=": 2}),
        ("C3H4_C3v", {"CC#": 1}),
        ("CH3CN", {"CN#": 1}),
        ("H2CCHCN", {"CC=": 1, "CN#": 1}),
        ("HCOOH", {"CO=": 1}),
        ("CH3CONH2", {"CO=": 1}),
        ("CH3NO2", {"NO=": 2}),
        ("CO2", {"CO=": 2}),
        ("H2CCO", {"CC=": 1, "CO=": 1}),
        ("C6H6", {}),  # only bonds outside rings
    ],
)
def test_orders_of_molecules(name: str, expected: dict[str, int]) -> None:
    assert multiple(molecule(name)) == expected


@pytest.mark.parametrize("name", ["C2H4", "butadiene", "HCOOH", "CH3CN", "C3H4_D2d", "CH3COCl", "C3H7", "CH3ONO"])
def test_orders_add_up_to_the_valence(name: str) -> None:
    atoms = molecule(name)
    graph, found = perceive(atoms)
    total = np.bincount(graph.i, weights=found.order, minlength=len(atoms)) + found.free
    valence = {1: 1, 6: 4, 7: 3, 8: 2, 17: 1}
    assert total.tolist() == [valence[z] for z in atoms.numbers.tolist()]
    assert found.free.sum() == (1 if name == "C3H7" else 0)  # the propyl radical


def test_bonds_of_a_polyene_alternate() -> None:
    atoms = read(ROOT / "configs" / "structures" / "molecules" / "hexadecaoctaene.extxyz")
    graph, found = perceive(atoms)
    carbon = (atoms.numbers[graph.i] == 6) & (atoms.numbers[graph.j] == 6)
    assert sorted(found.order[carbon & graph.once].tolist()) == [1] * 7 + [2] * 8
    assert graph.distance[found.order == 2].max() < graph.distance[carbon & (found.order == 1)].min()


def test_an_endless_polyene_is_decided_by_its_lengths() -> None:
    atoms = structures.chain(double_bonds=True) * (3, 1, 1)
    graph, found = perceive(atoms)
    carbon = (atoms.numbers[graph.i] == 6) & (atoms.numbers[graph.j] == 6)
    assert set(found.order[carbon & (graph.distance < 1.40)].tolist()) == {2}
    assert set(found.order[carbon & (graph.distance > 1.40)].tolist()) == {1}


def test_imine_of_a_conjugated_net() -> None:
    assert multiple(structures.imine_layer()) == {"CN=": 6}


def test_charges_are_left_on_donors() -> None:
    """One oxygen of each carboxylate, hydroxide; the ring of each imidazolate. Pyridine-like rings are even."""
    mil53 = read(ROOT / "tests" / "data" / "MIL-53-Al.extxyz")
    _, found = perceive(mil53)
    assert found.free.sum() == 4 * 3  # Al(OH)(BDC) four times
    assert set(mil53.numbers[found.free > 0]) == {8}
    zif = read(ROOT / "tests" / "data" / "ZIF-8_primitive.extxyz")
    _, found = perceive(zif)
    assert found.free.sum() == 0
    assert found.odd_ring.sum() == 12 * 5
    _, found = perceive(structures.pyrazine_chain())
    assert not found.odd_ring.any()
