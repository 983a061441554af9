"""Missing linkers and missing nodes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.extract.electrons import count_electrons, unsaturated
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.structures.defects import missing_linker, missing_node
from clusterflow.structures.net import find_net
from clusterflow.structures.perturbation import perturb

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def test_uio66_with_a_missing_linker_is_the_published_cell() -> None:
    defect = missing_linker(read(STRUCTURES / "UiO-66_conventional.extxyz"))
    assert len(defect) == 448
    assert formula(defect) == "C186H110O128Zr24"
    assert count_electrons(defect, bond_graph(defect)) == (0, 0)
    check_distances(defect, factor=0.8)
    blocks = find_blocks(defect)
    assert Counter(zip(blocks.kinds, blocks.formulas, strict=True)) == {
        ("node", "C12H4O32Zr6"): 2,
        ("node", "C12H5O32Zr6"): 2,
        ("linker", "C6H4"): 23,
    }


def test_mof5_primitive_loses_ten_atoms_and_gains_two() -> None:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    defect = missing_linker(atoms)
    assert len(defect) == 98
    graph = bond_graph(defect)
    for h in (96, 97):
        (carbon,) = graph.neighbours(h).tolist()
        assert defect.symbols[carbon] == "C"
        assert graph.distance[graph.bonds_of(h)] == pytest.approx([1.10])
        assert sorted(defect.symbols[graph.neighbours(carbon)]) == ["H", "O", "O"]


def test_hydrogen_sits_on_the_old_bond_also_in_a_hot_frame() -> None:
    atoms = perturb(
        read(STRUCTURES / "MOF-5_primitive.extxyz"), displacement=0.08, strain=0.03, rng=np.random.default_rng(5)
    )
    blocks = find_blocks(atoms)
    linker = blocks.kinds.index("linker")
    defect = missing_linker(atoms, which=0)
    expected = []
    for (kept, lost), shift in zip(blocks.cut_atoms, blocks.cut_shifts, strict=True):
        if blocks.labels[lost] == linker:
            bond = atoms.positions[lost] + shift @ atoms.cell.array - atoms.positions[kept]
            expected.append((kept, atoms.positions[kept] + 1.10 * bond / np.linalg.norm(bond)))
    expected.sort(key=lambda e: e[0])
    np.testing.assert_allclose(defect.positions[-2:], [e[1] for e in expected], atol=1e-10)


def test_choice_of_linkers() -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    assert missing_linker(atoms, which=[0, 3]) == missing_linker(atoms, which=[3, 0])
    assert missing_linker(atoms, which=1) != missing_linker(atoms, which=2)
    assert missing_linker(atoms, count=0) == atoms
    assert len(missing_linker(atoms, count=2)) == 114 - 2 * 8
    first, again = (missing_linker(atoms, count=3, rng=np.random.default_rng(8)) for _ in range(2))
    assert first == again
    drawn = {tuple(missing_linker(atoms, rng=np.random.default_rng(s)).positions[0]) for s in range(12)}
    assert len(drawn) > 1
    assert find_blocks(missing_linker(atoms, count=3)).kinds.count("linker") == 3


@pytest.mark.parametrize("choice", [{"count": 7}, {"count": -1}, {"which": 6}, {"which": [1, 1]}, {"which": -1}])
def test_linkers_that_are_not_there(choice: dict[str, int]) -> None:
    with pytest.raises(StructureError, match="6 linkers"):
        missing_linker(read(STRUCTURES / "UiO-66_primitive.extxyz"), **choice)


def test_a_molecule_has_no_linker() -> None:
    with pytest.raises(StructureError, match="1 linkers cannot be chosen from a structure with 0"):
        missing_linker(molecule("C6H6"))


def test_missing_node_leaves_the_published_reo_cell(uio66: Atoms) -> None:
    for which in range(4):
        defect = missing_node(uio66, which=which)
        assert formula(defect) == "C108H72O96Zr18"  # 294 atoms
        assert count_electrons(defect, bond_graph(defect)) == (0, 0)
        assert Counter(find_blocks(defect).formulas) == {"C12H8O32Zr6": 3, "C6H4": 12}
        check_distances(defect, factor=0.8)


@pytest.mark.parametrize(("name", "linker"), [("mof5", "C6H4"), ("irmof10", "C12H8")])
def test_missing_node_of_a_six_connected_framework(name: str, linker: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name).repeat((2, 1, 1))
    defect = missing_node(atoms, rng=np.random.default_rng(3))
    net = find_net(defect)
    assert (len(net.nodes), len(net.linkers)) == (3, 6)
    held = sorted(net.coordination.tolist())
    assert (held[-1], sum(held)) == (6, 12)  # the net is bipartite: the other node of its kind keeps all
    assert {net.blocks.formulas[b] for b in net.linkers} == {linker}
    assert count_electrons(defect, bond_graph(defect)) == (0, 0)


def test_nodes_that_are_not_there(mof5: Atoms) -> None:
    with pytest.raises(StructureError, match="3 nodes cannot be chosen from a structure with 2"):
        missing_node(mof5, count=3)
    with pytest.raises(StructureError, match="nothing of the framework goes on"):
        missing_node(mof5, count=2)
    with pytest.raises(StructureError, match=r"no nodes \[5\]"):
        missing_node(mof5, which=5)


def test_rods_lose_linkers_but_cannot_be_missing(rods: Atoms) -> None:
    """Every metal of a rod is a node, and its linkers are whole ligands; the carboxylates still stay with the rod."""
    net = find_net(rods)
    assert [net.blocks.formulas[b] for b in net.linkers] == ["C4O4"] * 2
    defect = missing_linker(rods)
    assert formula(defect) == "C6H2Mg2O10"
    assert len(find_net(defect).linkers) == 1
    assert unsaturated(defect, bond_graph(defect)) == []
    with pytest.raises(StructureError, match=r"no cap is known: the first is O\d+, which loses Mg"):
        missing_node(rods.repeat(2))


def test_a_choice_follows_the_block_not_its_number(uio66: Atoms) -> None:
    order = np.random.default_rng(4).permutation(len(uio66))
    shuffled = uio66[order]
    net, other = find_net(uio66), find_net(shuffled)
    same = {frozenset(order[other.blocks.members(b)].tolist()): k for k, b in enumerate(other.linkers.tolist())}
    for linker in (0, 7, 23):
        twin = same[frozenset(net.blocks.members(int(net.linkers[linker])).tolist())]
        a, b = missing_linker(uio66, which=linker), missing_linker(shuffled, which=twin)
        assert points(a) == points(b)


def points(atoms: Atoms) -> list[tuple[float, ...]]:
    return sorted((float(z), *np.round(p, 6).tolist()) for z, p in zip(atoms.numbers, atoms.positions, strict=True))
