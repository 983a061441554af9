"""Formate caps, and what cannot be capped."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from clusterflow.errors import StructureError
from clusterflow.extract.electrons import count_electrons, unsaturated
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.structures.capping import without_blocks
from clusterflow.structures.net import find_net


def test_every_open_carboxylate_gets_one_hydrogen_on_the_old_bond(uio67: Atoms) -> None:
    net = find_net(uio67)
    removed = net.mask(nodes=np.array([2]), linkers=net.linkers_of(np.array([2])))
    built = without_blocks(uio67, net.blocks, removed)
    atoms_gone = int(removed[net.blocks.labels].sum())
    hydrogens = np.arange(len(uio67) - atoms_gone, len(built))
    assert len(hydrogens) == 12
    graph = bond_graph(built)
    assert count_electrons(built, graph) == (0, 0)
    assert unsaturated(built, graph) == []
    for h in hydrogens.tolist():
        (carbon,) = graph.neighbours(h).tolist()
        assert sorted(built.symbols[graph.neighbours(carbon)]) == ["H", "O", "O"]
        bonds = graph.bonds_of(carbon)
        arms = {
            int(j): shift @ built.cell.array + built.positions[j] - built.positions[carbon]
            for j, shift in zip(graph.j[bonds], graph.shift[bonds], strict=True)
        }
        oxygens = sum(v / np.linalg.norm(v) for j, v in arms.items() if j != h)
        cosine = oxygens @ arms[h] / np.linalg.norm(oxygens) / np.linalg.norm(arms[h])
        assert cosine < -0.99  # away from both oxygens, in their plane
    carbons = [int(graph.neighbours(h)[0]) for h in hydrogens.tolist()]
    assert carbons == sorted(carbons)


def test_the_rest_keeps_order_and_place(mof5: Atoms) -> None:
    net = find_net(mof5)
    removed = net.mask(linkers=np.array([1, 4]))
    kept = mof5[~removed[net.blocks.labels]]
    built = without_blocks(mof5, net.blocks, removed)
    assert (built.numbers[: len(kept)] == kept.numbers).all()
    np.testing.assert_array_equal(built.positions[: len(kept)], kept.positions)


def test_nothing_removed_is_the_same_structure(mof5: Atoms) -> None:
    blocks = find_blocks(mof5)
    assert without_blocks(mof5, blocks, np.zeros(len(blocks.kinds), dtype=bool)) == mof5


def test_linkers_left_without_their_node_are_refused(mof5: Atoms) -> None:
    larger = mof5.repeat(2)
    net = find_net(larger)
    with pytest.raises(StructureError, match=r"6 bond\(s\) would end at an atom .* no cap is known: the first is C"):
        without_blocks(larger, net.blocks, net.mask(nodes=np.array([0])))


def test_bare_metals_are_refused(rods: Atoms) -> None:
    blocks = find_blocks(rods)
    oxide = np.array([name == "O" for name in blocks.formulas])
    with pytest.raises(StructureError, match=r"4 bond\(s\) would end .* the first is Mg0, which loses O1") as caught:
        without_blocks(rods, blocks, oxide)
    assert "Only carboxylates are capped" in str(caught.value)


def test_a_framework_must_stay_one(mof5: Atoms, rods: Atoms) -> None:
    net = find_net(mof5)
    for removed in (net.mask(linkers=np.arange(6)), np.ones(len(net.blocks.kinds), dtype=bool)):
        with pytest.raises(StructureError, match="nothing of the framework goes on through the crystal"):
            without_blocks(mof5, net.blocks, removed)
    net = find_net(rods)  # the rods themselves go on
    assert len(without_blocks(rods, net.blocks, net.mask(linkers=np.arange(2)))) == len(rods)


def test_molecules_may_lose_blocks_as_they_are(mof5: Atoms) -> None:
    """A finite piece of a framework was never one that goes on."""
    finite = mof5.copy()
    finite.pbc = False
    blocks = find_blocks(finite)
    removed = np.array([kind == "linker" for kind in blocks.kinds]) & (np.array([len(k) for k in blocks.links]) == 1)
    assert 0 < len(without_blocks(finite, blocks, removed)) < len(finite)
