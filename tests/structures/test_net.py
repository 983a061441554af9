"""Nets of real and artificial frameworks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.structures.defects import missing_linker, missing_node
from clusterflow.structures.net import Net, block_graph, centres, find_net


@pytest.mark.parametrize(
    ("name", "nodes", "linkers", "coordination"),
    [
        ("uio66", 4, 24, 12),
        ("uio66_primitive", 1, 6, 12),
        ("uio67", 4, 24, 12),
        ("mof5", 2, 6, 6),
        ("irmof10", 2, 6, 6),
        ("honeycomb", 4, 4, 3),
    ],
)
def test_counts(name: str, nodes: int, linkers: int, coordination: int, request: pytest.FixtureRequest) -> None:
    net = find_net(request.getfixturevalue(name))
    assert (len(net.nodes), len(net.linkers)) == (nodes, linkers)
    assert net.coordination.tolist() == [coordination] * nodes
    assert net.coordination.sum() == sum(len(ends) for ends in net.linker_ends)


def test_uio67_is_what_it_should_be(uio67: Atoms) -> None:
    assert Counter(uio67.get_chemical_symbols()) == {"Zr": 24, "O": 128, "C": 336, "H": 208}
    assert uio67.cell.lengths() == pytest.approx(26.896, rel=0.01)  # the crystal
    assert Counter(find_net(uio67).blocks.formulas) == {"C12H4O32Zr6": 4, "C12H8": 24}


@pytest.mark.parametrize("name", ["uio66", "mof5", "honeycomb"])
def test_neighbours_are_mutual(name: str, request: pytest.FixtureRequest) -> None:
    net = find_net(request.getfixturevalue(name))
    pairs = {(a, b, image) for a, others in enumerate(net.neighbours) for b, image, _ in others}
    assert pairs == {(b, a, (-x, -y, -z)) for a, b, (x, y, z) in pairs}


def edge_lengths(atoms: Atoms, net: Net) -> list[float]:
    nodes, _ = centres(atoms, net)
    return sorted(
        float(np.linalg.norm((nodes[b] + image - nodes[a]) @ atoms.cell.array))
        for a, others in enumerate(net.neighbours)
        for b, image, _ in others
    )


def test_edges_do_not_depend_on_how_atoms_are_wrapped_or_ordered(uio66: Atoms) -> None:
    assert edge_lengths(uio66, find_net(uio66)) == pytest.approx([20.978 / np.sqrt(2)] * 48, abs=0.01)
    rng = np.random.default_rng(2)
    other = uio66[rng.permutation(len(uio66))]
    other.positions += rng.integers(-2, 3, size=(len(other), 3)) @ other.cell.array + [3.0, -7.0, 1.0]
    assert edge_lengths(other, find_net(other)) == pytest.approx([20.978 / np.sqrt(2)] * 48, abs=0.01)
    other.wrap()
    assert edge_lengths(other, find_net(other)) == pytest.approx([20.978 / np.sqrt(2)] * 48, abs=0.01)


def test_linker_centres_lie_between_their_nodes(uio66: Atoms) -> None:
    net = find_net(uio66)
    nodes, middle = centres(uio66, net)
    for linker, ends in enumerate(net.linker_ends):
        between = np.mean([nodes[n] + image for n, image in ends], axis=0)
        assert np.linalg.norm((between - middle[linker]) @ uio66.cell.array) < 0.3  # its rings lie 0.16 Å beside


def test_what_hangs_on_one_node_is_no_linker_and_goes_with_it(mof5: Atoms) -> None:
    """Acetate instead of one formate: its methyl is a block of its own, but joins nothing."""
    formates = missing_linker(mof5)
    net = find_net(formates)
    hydrogen = len(formates) - 1
    carbon = int(net.blocks.graph.neighbours(hydrogen)[0])
    bond = formates.positions[hydrogen] - formates.positions[carbon]
    bond -= np.rint(formates.cell.scaled_positions(bond)) @ formates.cell.array
    axis = bond / np.linalg.norm(bond)
    side = np.cross(axis, [0.3, 0.5, 0.8])
    side /= np.linalg.norm(side)
    methyl = formates.positions[carbon] + 1.50 * axis
    arms = [np.cos(t) * side + np.sin(t) * np.cross(axis, side) for t in np.radians([0, 120, 240])]
    acetate = formates[:hydrogen] + Atoms("CH3", [methyl, *(methyl + 0.36 * axis + 1.03 * arm for arm in arms)])
    after = find_net(acetate)
    assert Counter(after.blocks.formulas)["CH3"] == 1
    assert len(after.linkers) == len(net.linkers) == 5
    gone = [missing_node(acetate.repeat(2), which=k) for k in range(16)]
    counts = Counter(Counter(find_net(a).blocks.formulas)["CH3"] for a in gone)
    assert counts == {7: 8, 8: 8}  # half of the nodes hold an acetate, which goes with them


def test_tritopic_linkers_go_with_any_of_their_nodes(honeycomb: Atoms) -> None:
    net = find_net(honeycomb)
    assert all(len(ends) == 3 for ends in net.linker_ends)
    left = find_net(missing_node(honeycomb.repeat((2, 2, 1))))
    assert (len(left.nodes), len(left.linkers)) == (15, 13)
    assert Counter(left.coordination.tolist()) == {2: 6, 3: 9}
    assert sorted(find_net(missing_linker(honeycomb)).coordination.tolist()) == [2, 2, 2, 3]


def test_molecules_have_no_net() -> None:
    net = find_net(molecule("C6H6"))
    assert len(net.nodes) == len(net.linkers) == len(net.ends) == 0
    assert net.neighbours == ()


def test_block_graph_finds_the_endless_framework(uio66: Atoms) -> None:
    graph = block_graph(find_net(uio66).blocks)
    labels, _, infinite = graph.unwrap()
    assert set(labels.tolist()) == {0}
    assert infinite.tolist() == [True]
