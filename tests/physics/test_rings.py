"""Ring membership against removal of bonds one by one and a plain search."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.rings import bridges, ring_bonds, smallest_rings
from clusterflow.testing import structures


def everything(graph: BondGraph) -> np.ndarray:
    return np.ones(len(graph.i), dtype=bool)


def finite_graph(n: int, edges: set[tuple[int, int]]) -> BondGraph:
    both = sorted(edges | {(b, a) for a, b in edges})
    i, j = np.array(both, dtype=np.int64).reshape(-1, 2).T
    return BondGraph(n, i, j, np.zeros((len(i), 3), dtype=np.int64), np.ones(len(i)))


def random_edges(n: int, numbers: list[int]) -> set[tuple[int, int]]:
    return {tuple(sorted((k % n, (k // n) % n))) for k in numbers if k % n != (k // n) % n}  # type: ignore[misc]


@given(st.integers(2, 12), st.lists(st.integers(0, 10_000), min_size=1, max_size=16))
@settings(max_examples=60, deadline=None)
def test_bridges_are_the_bonds_whose_removal_divides(n: int, numbers: list[int]) -> None:
    edges = random_edges(n, numbers)
    if not edges:
        return
    graph = finite_graph(n, edges)
    found = bridges(graph, everything(graph))

    def parts(left: set[tuple[int, int]]) -> int:
        i, j = np.array(sorted(left), dtype=int).reshape(-1, 2).T
        return int(connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[0])

    for k in range(len(graph.i)):
        edge = (int(graph.i[k]), int(graph.j[k]))
        assert found[k] == (parts(edges - {tuple(sorted(edge))}) > parts(edges))  # type: ignore[arg-type]
    assert np.array_equal(ring_bonds(graph, everything(graph)), ~found)


@given(st.integers(3, 12), st.lists(st.integers(0, 10_000), min_size=3, max_size=20))
@settings(max_examples=60, deadline=None)
def test_smallest_rings_are_those_of_a_plain_search(n: int, numbers: list[int]) -> None:
    edges = random_edges(n, numbers)
    if not edges:
        return
    graph = finite_graph(n, edges)
    bonds = np.flatnonzero(graph.once)
    found = smallest_rings(graph, bonds, everything(graph), max_size=16)
    for bond, size in zip(bonds.tolist(), found.tolist(), strict=True):
        a, b = int(graph.i[bond]), int(graph.j[bond])
        distance = {a: 0}
        queue = deque([a])
        while queue:
            here = queue.popleft()
            for there in graph.neighbours(here).tolist():
                if there not in distance and {here, there} != {a, b}:
                    distance[there] = distance[here] + 1
                    queue.append(there)
        assert size == (distance[b] + 1 if b in distance else 0)


@pytest.mark.parametrize(
    ("name", "in_rings"), [("C6H6", 6), ("bicyclobutane", 5), ("C4H4NH", 5), ("CH3CH2OH", 0), ("C60", 90)]
)
def test_rings_of_molecules(name: str, in_rings: int) -> None:
    graph = bond_graph(molecule(name))
    assert ring_bonds(graph, everything(graph)).sum() == 2 * in_rings


def test_a_cycle_through_the_boundary_or_around_a_pore_is_no_ring() -> None:
    chain = structures.chain(double_bonds=False)
    graph = bond_graph(chain)
    assert not bridges(graph, everything(graph))[chain.numbers[graph.i] == chain.numbers[graph.j]].any()
    assert not ring_bonds(graph, everything(graph)).any()
    layer = structures.boroxine_layer()
    graph = bond_graph(layer)
    ring = ring_bonds(graph, everything(graph))
    boron_carbon = (layer.numbers[graph.i] == 5) & (layer.numbers[graph.j] == 6)
    assert boron_carbon.sum() == 6
    assert not ring[boron_carbon].any()
    assert ring.sum() == 2 * (2 * 6 + 3 * 6)  # two boroxines, three phenylenes


@pytest.mark.parametrize("size", [1, 2, 5])
def test_graphene_is_six_rings_in_any_cell(size: int) -> None:
    atoms = graphene("C2", a=2.46, size=(size, size, 1), vacuum=8)
    atoms.pbc = True
    graph = bond_graph(atoms)
    bonds = np.flatnonzero(graph.once)
    assert set(smallest_rings(graph, bonds, everything(graph), max_size=16).tolist()) == {6}
    assert ring_bonds(graph, everything(graph)).all()


def test_the_inner_ring_of_a_porphyrin_is_found_in_a_net() -> None:
    """Free-base porphyrins joined by C≡C at opposite meso carbons, whose own bonds lie in the 16-ring only."""
    atoms = structures.porphine("")
    atoms.rotate(45, "z")
    on_x = [k for k in range(len(atoms)) if atoms.symbols[k] == "H" and abs(atoms.positions[k, 1]) < 0.1]
    inner = [k for k in on_x if abs(atoms.positions[k, 0]) < 2]
    del atoms[[k for k in on_x if k not in inner]]
    meso_x = 2.43 * 2**0.5
    atoms += Atoms("C2", positions=[[meso_x + 1.42, 0, 0], [meso_x + 2.64, 0, 0]])
    atoms.set_cell([2 * meso_x + 4.06, 18, 12])
    atoms.pbc = True
    graph = bond_graph(atoms)
    ring = ring_bonds(graph, everything(graph))
    for meso in np.flatnonzero((atoms.numbers == 6) & (np.abs(atoms.positions[:, 1]) < 0.1))[:2].tolist():
        bonds = np.arange(graph.n_atoms * 4)[graph.bonds_of(meso)]
        assert ring[bonds].tolist().count(True) == 2
        assert smallest_rings(graph, bonds[ring[bonds]], everything(graph), max_size=16).tolist() == [16, 16]
