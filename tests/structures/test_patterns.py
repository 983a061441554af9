"""bcu, reo and scu from fcu, against the ideal nets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase import Atoms

from clusterflow.core.data import IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.extract.electrons import count_electrons, unsaturated
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.structures.defects import missing_linker, missing_node
from clusterflow.structures.net import Net, centres, find_net
from clusterflow.structures.patterns import TOPOLOGIES, topology

UIO66 = {  # Dobbelaere et al. 2025, section 4.4: nodes with their linkers, number of linkers; the formula follows
    "bcu": ({8: 4}, 16, "C144H96O128Zr24"),
    "reo": ({8: 3}, 12, "C108H72O96Zr18"),
    "scu": ({4: 2, 8: 1}, 8, "C84H64O96Zr18"),
}


def shells(net: Net, node: int, count: int) -> tuple[int, ...]:
    """Coordination sequence: how many nodes are 1, 2, … linkers away."""
    seen = {(node, (0, 0, 0))}
    frontier = set(seen)
    found = []
    for _ in range(count):
        frontier = {
            (b, (x + u, y + v, z + w)) for a, (x, y, z) in frontier for b, (u, v, w), _ in net.neighbours[a]
        } - seen
        seen |= frontier
        found.append(len(frontier))
    return tuple(found)


def ideal_shells(keep_node: object, keep_edge: object, node: tuple[int, int, int], count: int) -> tuple[int, ...]:
    """The same for a part of fcu, whose nodes are the integer points with an even sum and edges join the nearest."""
    steps = [np.array(s) for s in np.ndindex(3, 3, 3)]
    steps = [s - 1 for s in steps if np.abs(s - 1).sum() == 2]
    seen = {node}
    frontier = {node}
    found = []
    for _ in range(count):
        reached = {
            tuple((np.array(p) + s).tolist())
            for p in frontier
            for s in steps
            if keep_edge(p, s)  # type: ignore[operator]
        }
        frontier = {p for p in reached if keep_node(p)} - seen  # type: ignore[operator]
        seen |= frontier
        found.append(len(frontier))
    return tuple(found)


def simple_cubic(point: tuple[int, int, int]) -> bool:
    return all(x % 2 == 0 for x in point)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_uio66(name: str, uio66: Atoms) -> None:
    coordination, linkers, composition = UIO66[name]
    built = topology(uio66, name)
    net = find_net(built)
    assert Counter(net.coordination.tolist()) == coordination
    assert len(net.linkers) == linkers
    assert formula(built) == composition
    graph = bond_graph(built)
    assert count_electrons(built, graph) == (0, 0)
    assert unsaturated(built, graph) == []
    assert set(np.diff(graph.first)[built.numbers == 40].tolist()) == {8}
    check_distances(built, factor=0.8)


def test_reo_is_one_missing_node(uio66: Atoms) -> None:
    assert topology(uio66, "reo") == missing_node(uio66)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coordination_sequences_are_those_of_the_ideal_nets(axis: int, uio66: Atoms) -> None:
    def out_of_plane(_: object, step: IntArray) -> bool:
        return bool(step[axis])

    def any_edge(_: object, __: object) -> bool:
        return True

    def all_nodes(_: object) -> bool:
        return True

    def without_class(point: tuple[int, int, int]) -> bool:
        return not simple_cubic(point)

    bcu = find_net(topology(uio66, "bcu", axis=axis))
    assert {shells(bcu, k, 4) for k in range(4)} == {(8, 26, 56, 98)}  # bcc: 6 k² + 2
    assert ideal_shells(all_nodes, out_of_plane, (0, 0, 0), 4) == (8, 26, 56, 98)
    places = [(0, 1, 1), (1, 0, 1), (1, 1, 0)]
    reo = find_net(topology(uio66, "reo", axis=axis))
    expected = Counter(ideal_shells(without_class, any_edge, p, 4) for p in places)
    assert Counter(shells(reo, k, 4) for k in range(3)) == expected
    scu = find_net(topology(uio66, "scu", axis=axis))
    expected = Counter(ideal_shells(without_class, out_of_plane, p, 4) for p in places)
    assert Counter(shells(scu, k, 4) for k in range(3)) == expected
    assert sorted(sequence[0] for sequence in expected) == [4, 8]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bcu_loses_the_planes_perpendicular_to_the_axis(axis: int, uio66: Atoms) -> None:
    for atoms in (uio66, uio66.repeat((2, 1, 1))):
        net = find_net(topology(atoms, "bcu", axis=axis))
        nodes, _ = centres(atoms_of := topology(atoms, "bcu", axis=axis), net)
        for a, others in enumerate(net.neighbours):
            for b, image, _ in others:
                step = (nodes[b] + image - nodes[a]) @ atoms_of.cell.array
                assert abs(step[axis]) == pytest.approx(20.978 / 2, abs=0.05)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_supercells_and_uio67_follow(name: str, uio66_primitive: Atoms, uio67: Atoms) -> None:
    coordination, linkers, _ = UIO66[name]
    for atoms, times in ((uio66_primitive.repeat(2), 2), (uio66_primitive.repeat((2, 4, 2)), 4), (uio67, 1)):
        net = find_net(topology(atoms, name))
        assert Counter(net.coordination.tolist()) == {k: times * v for k, v in coordination.items()}
        assert len(net.linkers) == times * linkers


def test_atom_order_gives_the_same_kind_of_structure(uio66: Atoms) -> None:
    rng = np.random.default_rng(5)
    for name in TOPOLOGIES:
        built = topology(uio66[rng.permutation(len(uio66))], name)
        assert formula(built) == UIO66[name][2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mof5", r"net fcu.*12 different neighbours; linkers per node: 6 \(×2\)"),
        ("honeycomb", r"linkers join 3 nodes, not 2"),
        ("rods", r"net fcu"),
        ("uio66_primitive", r"too small .* 1 node\(s\) are 1 class"),
    ],
)
def test_nets_that_are_not_fcu(name: str, words: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(StructureError, match=words):
        topology(request.getfixturevalue(name), "reo")


def test_defective_and_oddly_repeated_cells_are_refused(uio66: Atoms, uio66_primitive: Atoms) -> None:
    with pytest.raises(StructureError, match=r"12 different neighbours; linkers per node: 11 \(×2\), 12 \(×2\)"):
        topology(missing_linker(uio66), "bcu")
    with pytest.raises(StructureError, match="too small"):
        topology(uio66_primitive.repeat((2, 2, 1)), "bcu")
    with pytest.raises(StructureError, match="too small"):
        topology(uio66_primitive.repeat(3), "bcu")


def test_hcp_has_twelve_neighbours_and_is_not_fcu(uio66: Atoms) -> None:
    """The other close packing, as a net without atoms: two nodes in a hexagonal cell, 12 linkers."""
    edges = [(0, 0, s) for s in ((1, 0, 0), (0, 1, 0), (1, 1, 0))] + [
        (1, 1, s) for s in ((1, 0, 0), (0, 1, 0), (1, 1, 0))
    ]
    edges += [(0, 1, (x, y, z)) for x, y in ((0, 0), (-1, 0), (-1, -1)) for z in (0, -1)]
    ends = [(k, n) for k, (a, b, _) in enumerate(edges) for n in (a, b)]
    images = [i for _, _, shift in edges for i in ((0, 0, 0), shift)]
    net = Net(find_net(uio66).blocks, np.arange(2), np.arange(12), np.array(ends), np.array(images))
    assert {shells(net, k, 2) for k in range(2)} == {(12, 44)}  # fcu: 12, 42
    from clusterflow.structures.patterns import _classes

    with pytest.raises(StructureError, match="surroundings of node 0 are not those of fcu"):
        _classes(net, "")


def test_unknown_topology_and_axis(uio66: Atoms) -> None:
    with pytest.raises(StructureError, match="'pcu' is not known"):
        topology(uio66, "pcu")  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="no cell vector 3"):
        topology(uio66, "bcu", axis=3)
