"""Partition of frameworks into nodes, linkers and molecules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.errors import StructureError
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.cut_table import extend
from clusterflow.physics.elements import is_metal
from clusterflow.testing import structures

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
MOLECULES = STRUCTURES / "molecules"
DATA = Path(__file__).parents[1] / "data"


def data(name: str) -> Callable[[], Atoms]:
    return lambda: read(DATA / f"{name}.extxyz")


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


def test_a_rod_comes_apart_at_its_metals() -> None:
    """An endless …–Mg–O–Mg–O–… with an acetate on every Mg: what one metal holds stays, what two hold is a block."""
    rod = Atoms("MgO", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[4.0, 12, 25], pbc=True)
    rod += Atoms("OCO", positions=[[0, 1.1, 2.0], [0, 0, 2.6], [0, -1.1, 2.0]])
    rod += Atoms("CHHH", positions=[[0, 0, 4.1], [0, 1.0, 4.5], [0.9, -0.5, 4.5], [-0.9, -0.5, 4.5]])
    blocks = find_blocks(rod)
    assert blocks.kinds == ("node", "linker")
    assert blocks.formulas == ("C2H3MgO2", "O")
    assert not blocks.infinite.any()
    assert blocks.cut_atoms.tolist() == [[0, 1], [0, 1]]
    assert {(rule.name, rule.first, rule.second) for rule in blocks.cut_rules} == {("metal-O", "keep", "protonate")}
    assert (blocks.anchor == -1).all()


# Kind and formula: how many per cell. Frameworks of one row each: carboxylates of Cu and Zn, rods, azolates, …
CHEMISTRY: dict[str, tuple[Callable[[], Atoms], dict[str, int], set[str]]] = {
    "IRMOF-10": (data("IRMOF-10_primitive"), {"node C6O13Zn4": 2, "linker C12H8": 6}, {"carboxylate C-C"}),
    "IRMOF-16": (data("IRMOF-16_primitive"), {"node C6O13Zn4": 2, "linker C18H12": 6}, {"carboxylate C-C"}),
    "HKUST-1": (structures.hkust1, {"node C4Cu2O8": 6, "linker C6H3": 8}, {"carboxylate C-C"}),
    "ZIF-8": (data("ZIF-8_primitive"), {"node Zn": 6, "linker C4H5N2": 12}, {"metal-N azolate"}),
    "MIL-53": (data("MIL-53-Al"), {"node Al": 4, "linker HO": 4, "linker C8H4O4": 4}, {"metal-O"}),
    "MOF-74": (structures.mof74, {"node Mg": 6, "linker C8H2O6": 3}, {"metal-O"}),
    "porphyrin MOF": (
        structures.porphyrin_layer,
        {"node C2H4O6Zn2": 2, "linker C20H8N4Zn": 1},
        {"carboxylate C-C"},
    ),
    "pillared by pyrazine": (structures.pyrazine_chain, {"node Cl2Zn": 1, "linker C4H4N2": 1}, {"metal-N dative"}),
    "COF, boroxine": (structures.boroxine_layer, {"linker B3O3": 2, "linker C6H4": 3}, {"B-C"}),
    "COF, imine": (structures.imine_layer, {"linker C6H3": 2, "linker C8H6N2": 3}, {"conjugated C-C"}),
    "polyacetylene": (lambda: structures.chain(double_bonds=True), {"linker C2H2": 1}, {"conjugated C-C"}),
    "polyethylene": (lambda: structures.chain(double_bonds=False), {"linker CH2": 2}, {"alkyl C-C"}),
    "zeolite": (structures.sodalite, {"node Si": 12, "linker O": 24}, {"T-O"}),
    "zeolite, H–Al": (
        lambda: structures.sodalite(aluminium=True),
        {"node Si": 6, "node Al": 6, "linker O": 18, "linker HO": 6},
        {"T-O"},
    ),
    "molecular crystal": (structures.benzene_crystal, {"molecule C6H6": 4}, set()),
    "liquid": (data("water_32"), {"molecule H2O": 32}, set()),
    "metal complex": (structures.porphine, {"molecule C20H12N4Zn": 1}, set()),
}


@pytest.mark.parametrize("name", CHEMISTRY)
def test_every_chemistry_has_its_blocks(name: str) -> None:
    build, expected, rules = CHEMISTRY[name]
    atoms = build()
    check_distances(atoms)
    blocks = find_blocks(atoms)
    assert Counter(f"{kind} {text}" for kind, text in zip(*(blocks.kinds, blocks.formulas), strict=True)) == expected
    assert {rule.name for rule in blocks.cut_rules} == rules
    assert not blocks.infinite.any()
    _check_partition(atoms, blocks)


@pytest.mark.parametrize("name", CHEMISTRY)
@pytest.mark.parametrize("max_cost", [2.5, 8.0])
def test_finer_blocks_are_parts_of_coarser_ones(name: str, max_cost: float) -> None:
    """A larger max_cost only adds cuts; never in a ring, to hydrogen, of a metal, or in a carboxylate."""
    atoms = CHEMISTRY[name][0]()
    coarse, fine = find_blocks(atoms), find_blocks(atoms, max_cost=max_cost)
    _check_partition(atoms, fine)
    for block in range(len(fine.kinds)):
        assert len(set(coarse.labels[fine.members(block)])) == 1
    nodes = [{tuple(b.members(k)) for k, kind in enumerate(b.kinds) if kind == "node"} for b in (coarse, fine)]
    assert nodes[0] == nodes[1]
    new = {(a, b, *s) for (a, b), s in zip(fine.cut_atoms.tolist(), fine.cut_shifts.tolist(), strict=True)}
    new -= {(a, b, *s) for (a, b), s in zip(coarse.cut_atoms.tolist(), coarse.cut_shifts.tolist(), strict=True)}
    carboxyl = _carboxyl_oxygens(atoms)
    for a, b, *_ in new:
        assert 1 not in atoms.numbers[[a, b]]
        assert not {a, b} & carboxyl


def _carboxyl_oxygens(atoms: Atoms) -> set[int]:
    graph = bond_graph(atoms)
    found: set[int] = set()
    for carbon in np.flatnonzero(atoms.numbers == 6).tolist():
        oxygens = [o for o in graph.neighbours(carbon).tolist() if atoms.numbers[o] == 8]
        if len(oxygens) == 2:
            found.update(oxygens)
    return found


def _check_partition(atoms: Atoms, blocks: Blocks) -> None:
    """Every atom in one block; blocks whole, joined by their cut bonds only; ends as their rules say."""
    graph = blocks.graph
    members = np.concatenate([blocks.members(b) for b in range(len(blocks.kinds))])
    assert np.array_equal(np.sort(members), np.arange(len(atoms)))
    assert len(blocks.cut_rules) == len(blocks.cut_atoms) == len(blocks.cut_shifts)
    cut = {(a, b, *s) for (a, b), s in zip(blocks.cut_atoms.tolist(), blocks.cut_shifts.tolist(), strict=True)}
    cut |= {(b, a, -x, -y, -z) for a, b, x, y, z in cut}
    for i, j, s in zip(graph.i.tolist(), graph.j.tolist(), graph.shift.tolist(), strict=True):
        same_copy = blocks.labels[i] == blocks.labels[j] and (blocks.offsets[i] + s == blocks.offsets[j]).all()
        assert same_copy != ((i, j, *s) in cut)
    metal = is_metal(atoms.numbers)
    for (a, b), rule in zip(blocks.cut_atoms.tolist(), blocks.cut_rules, strict=True):
        assert not metal[b]
        if metal[a]:
            assert (rule.first, rule.second) in {("keep", e) for e in ("protonate", "neutralise", "bare", "cap")}
        elif atoms.numbers[a] != 14:
            assert (rule.first, rule.second) == ("cap", "cap")


def test_functional_groups_of_herbold() -> None:
    """Single CH2 groups of alkanes, C2H2 of polyenes, phenylene rings (Herbold and Behler 2021, section III)."""
    for atoms, expected in (
        (read(MOLECULES / "hexadecane.extxyz"), {"linker CH3": 2, "linker CH2": 14}),
        (read(MOLECULES / "hexadecaoctaene.extxyz"), {"linker C2H3": 2, "linker C2H2": 6}),
        (structures.polyphenyl(5), {"linker C6H5": 2, "linker C6H4": 3}),
    ):
        assert find_blocks(atoms).kinds == ("molecule",)
        blocks = find_blocks(atoms, max_cost=2.0)
        assert Counter(map(" ".join, zip(blocks.kinds, blocks.formulas, strict=True))) == expected


def test_a_larger_cost_divides_biphenyl_linkers_into_rings() -> None:
    atoms = read(DATA / "IRMOF-10_primitive.extxyz")
    blocks = find_blocks(atoms, max_cost=2.0)
    assert Counter(blocks.formulas) == {"C6O13Zn4": 2, "C6H4": 12}
    assert Counter(rule.name for rule in blocks.cut_rules) == {"carboxylate C-C": 12, "biaryl C-C": 6}


def test_a_table_of_ones_own() -> None:
    """Forbidding a row, making one cheap, and adding a double bond."""
    polyphenyl = structures.polyphenyl(5)
    never = extend([{"name": "biaryl C-C", "cost": "never"}, {"name": "conjugated C-C", "cost": "never"}])
    assert find_blocks(polyphenyl, cuts=never, max_cost=7.0).kinds == ("molecule",)
    cheap = extend([{"name": "biaryl C-C", "cost": 0.5}])
    assert len(find_blocks(polyphenyl, cuts=cheap).kinds) == 5
    octaene = read(MOLECULES / "hexadecaoctaene.extxyz")
    doubles = extend([{"name": "C=C", "between": ["C sp2", "C sp2"], "cost": 1.0, "order": 2}])
    assert Counter(find_blocks(octaene, cuts=doubles).formulas) == {"CH2": 2, "C2H2": 7}


def test_only_the_axial_bonds_of_a_metal_in_a_pocket_are_cut() -> None:
    """A porphyrin chain: zinc porphyrins bridged by pyrazine above and below. The metal belongs to the macrocycle."""
    atoms = structures.porphine("Zn")
    bridge = structures.pyrazine_chain()
    del bridge[[k for k in range(len(bridge)) if bridge.symbols[k] in ("Zn", "Cl")]]
    bridge.rotate(90, "y")
    bridge.positions += [0.0, 0.0, 3.48 - bridge.positions[:, 2].mean()]
    atoms += bridge
    atoms.set_cell([16, 16, 6.96])
    atoms.pbc = True
    blocks = find_blocks(atoms)
    assert Counter(zip(blocks.kinds, blocks.formulas, strict=True)) == {
        ("linker", "C20H12N4Zn"): 1,
        ("linker", "C4H4N2"): 1,
    }
    assert {rule.name for rule in blocks.cut_rules} == {"metal-N dative"}
    assert len(blocks.cut_atoms) == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["ZIF-8", "HKUST-1", "COF, imine", "zeolite", "polyacetylene"])
def test_blocks_survive_heat_order_and_images(name: str, seed: int) -> None:
    build, expected, _ = CHEMISTRY[name]
    rng = np.random.default_rng(seed)
    atoms = build()
    atoms.positions += rng.normal(0.0, 0.04, size=atoms.positions.shape)
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.positions += rng.integers(-2, 3, size=atoms.positions.shape) @ atoms.cell.array
    blocks = find_blocks(atoms)
    assert Counter(map(" ".join, zip(blocks.kinds, blocks.formulas, strict=True))) == expected


def test_small_and_large_cells_have_the_same_blocks() -> None:
    for name, (build, expected, _) in CHEMISTRY.items():
        if name in ("metal complex", "HKUST-1", "IRMOF-10", "IRMOF-16"):
            continue
        blocks = find_blocks(build() * (2, 1, 1))
        assert Counter(map(" ".join, zip(blocks.kinds, blocks.formulas, strict=True))) == {
            key: 2 * count for key, count in expected.items()
        }, name


@pytest.mark.parametrize("name", GOLD := ["Ca", "Cd", "V", "Cu", "Tb", "Mg", "Nd", "Co", "Fe", "Mn"])
def test_ten_frameworks_of_other_metals(name: str) -> None:
    """Carboxylates, phosphonates, oxalates, pyrazolates, halides, salen: every one has finite blocks."""
    atoms = next(a for a in read(DATA / "GoldDAC_10_frameworks.extxyz", ":") if name in a.get_chemical_symbols())
    blocks = find_blocks(atoms)
    assert not blocks.infinite.any()
    _check_partition(atoms, blocks)
    metal = is_metal(atoms.numbers)
    of_metals = {blocks.kinds[b] for b in blocks.labels[metal]}
    assert of_metals == {"node"}
    organic = {blocks.labels[k] for k in np.flatnonzero(atoms.numbers == 1)}
    assert all(blocks.kinds[b] != "molecule" for b in organic)
