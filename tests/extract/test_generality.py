"""Every structure at hand: its blocks, and one fragment per kind of block with formula, charge and saturation.

The formulas are those that the code gave when the table was made; what they must be is checked beside them: every metal
has the neighbours of its parent, and where metals were cut off their ligands, the charge is that of the ions by hand
(`IONS`) plus one per proton, e.g. Zn(mIm)2(HmIm)2 is 2 − 4 + 2 = 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.io import read

from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, StructureError
from clusterflow.extract.electrons import count_electrons
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.extract.sphere import SphericalCut
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.selection.duplicates import same_fragment
from clusterflow.structures.perturbation import perturb
from clusterflow.testing.structures import moved

TESTS = Path(__file__).parents[1]
SHIPPED = TESTS.parent / "configs" / "structures"
GOLD_DAC = ("Ca", "Cd", "V", "Cu", "Tb", "Mg", "Nd", "Co", "Fe", "Mn")


@cache
def structure(name: str) -> Atoms:
    if name in GOLD_DAC:
        return read(TESTS / "data" / "GoldDAC_10_frameworks.extxyz", GOLD_DAC.index(name))
    if name == "sodalite":
        return sodalite()
    folder = SHIPPED if (SHIPPED / f"{name}.extxyz").exists() else TESTS / "data"
    return read(folder / f"{name}.extxyz")


def sodalite() -> Atoms:
    """SiO2 sodalite, Im-3m, with Si on 12d and O on 24h, a = 8.83 Å."""
    from ase.spacegroup import crystal

    return crystal(["Si", "O"], [(0.25, 0.5, 0.0), (0.148, 0.148, 0.5)], spacegroup=229, cellpar=[8.83] * 3 + [90] * 3)


@dataclass(frozen=True)
class Expected:
    """Blocks of a cell as {kind:formula: count}, and per core and mantle the formula, charge and unpaired electrons of
    the fragment."""

    blocks: dict[str, int]
    fragments: dict[tuple[str, str], tuple[str, int, int]]


TABLE = {
    "MOF-5_primitive": Expected(
        {"node:C6O13Zn4": 2, "linker:C6H4": 6},
        {
            ("node:C6O13Zn4", "none"): ("C6H6O13Zn4", 0, 0),
            ("node:C6O13Zn4", "neighbours"): ("C42H30O13Zn4", 0, 0),
            ("node:C6O13Zn4", "linkers"): ("C48H30O25Zn4", 0, 0),
            ("linker:C6H4", "anchors"): ("C8H6O4", 0, 0),
            ("linker:C6H4", "neighbours"): ("C18H14O26Zn8", 0, 0),
        },
    ),
    "UiO-66_primitive": Expected(
        {"node:C12H4O32Zr6": 1, "linker:C6H4": 6},
        {
            ("node:C12H4O32Zr6", "none"): ("C12H16O32Zr6", 0, 0),
            ("node:C12H4O32Zr6", "neighbours"): ("C84H64O32Zr6", 0, 0),
            ("node:C12H4O32Zr6", "linkers"): ("C96H64O56Zr6", 0, 0),
            ("linker:C6H4", "neighbours"): ("C30H34O64Zr12", 0, 0),
        },
    ),
    "IRMOF-10_primitive": Expected(
        {"node:C6O13Zn4": 2, "linker:C12H8": 6},
        {
            ("node:C6O13Zn4", "neighbours"): ("C78H54O13Zn4", 0, 0),
            ("linker:C12H8", "neighbours"): ("C24H18O26Zn8", 0, 0),
        },
    ),
    "IRMOF-16_primitive": Expected(
        {"node:C6O13Zn4": 2, "linker:C18H12": 6},
        {
            ("node:C6O13Zn4", "neighbours"): ("C114H78O13Zn4", 0, 0),
            ("linker:C18H12", "neighbours"): ("C30H22O26Zn8", 0, 0),
        },
    ),
    # Zn(mIm)2(HmIm)2 and Zn2(mIm)4(HmIm)3 with mIm = C4H5N2.
    "ZIF-8_primitive": Expected(
        {"node:Zn": 6, "linker:C4H5N2": 12},
        {
            ("node:Zn", "none"): ("C16H24N8Zn", 2, 0),
            ("node:Zn", "neighbours"): ("C16H24N8Zn", 2, 0),
            ("linker:C4H5N2", "none"): ("C4H6N2", 0, 0),
            ("linker:C4H5N2", "neighbours"): ("C28H41N14Zn2", 3, 0),
        },
    ),
    # Al(OH)2 with four terephthalates, 3 − 2 − 8 + 7 H; two such Al around the core OH: 6 − 3 − 12 + 9 H.
    "MIL-53-Al": Expected(
        {"node:Al": 4, "linker:C8H4O4": 4, "linker:HO": 4},
        {
            ("node:Al", "none"): ("C32H25AlO18", 0, 0),
            ("linker:HO", "none"): ("H2O", 0, 0),
            ("linker:HO", "neighbours"): ("C48H36Al2O27", 0, 0),
            ("linker:C8H4O4", "none"): ("C8H6O4", 0, 0),
            ("linker:C8H4O4", "neighbours"): ("C88H66Al4O50", 0, 0),
        },
    ),
    # Si(OH)4 and (HO)3Si–O–Si(OH)3.
    "sodalite": Expected(
        {"node:Si": 12, "linker:O": 24},
        {
            ("node:Si", "none"): ("H4O4Si", 0, 0),
            ("node:Si", "2 shells"): ("H12O16Si5", 0, 0),
            ("linker:O", "neighbours"): ("H6O7Si2", 0, 0),
        },
    ),
    "water_32": Expected({"molecule:H2O": 32}, {("molecule:H2O", "none"): ("H2O", 0, 0)}),
    "Ca": Expected(
        {"node:Ca": 4, "linker:C8F4O4": 4},
        {
            ("node:Ca", "neighbours"): ("C32H6CaF16O16", 0, 0),
            ("linker:C8F4O4", "none"): ("C8H2F4O4", 0, 0),
        },
    ),
    "Cd": Expected(
        {"node:Cd": 3, "linker:C30H18Cl2N2O2": 3, "linker:Cl": 6},
        {
            ("node:Cd", "neighbours"): ("C60H38CdCl8N4O4", 0, 0),
            ("linker:C30H18Cl2N2O2", "none"): ("C30H18Cl2N2O2", 0, 0),
            ("linker:Cl", "none"): ("HCl", 0, 0),
        },
    ),
    "V": Expected(
        {"node:V": 12, "linker:C2H4O6P2": 8},
        {("node:V", "neighbours"): ("C4H13O12P4V", 0, 2), ("linker:C2H4O6P2", "none"): ("C2H8O6P2", 0, 0)},
    ),
    # Pyrazine is neutral, so a Cu(II) with four of them is a dication, and so is the framework per Cu.
    "Cu": Expected(
        {"node:Cu": 8, "linker:C4H4N2": 16},
        {("node:Cu", "neighbours"): ("C16H16CuN8", 2, 1), ("linker:C4H4N2", "none"): ("C4H4N2", 0, 0)},
    ),
    "Tb": Expected(
        {"node:Tb": 4, "linker:C4H2O4": 6},
        {("node:Tb", "neighbours"): ("C20H17O20Tb", 0, 6), ("linker:C4H2O4", "none"): ("C4H4O4", 0, 0)},
    ),
    "Mg": Expected(
        {"node:Mg": 8, "linker:C12H6O4": 8, "linker:H2O": 8},
        {
            ("node:Mg", "neighbours"): ("C48H34MgO18", 0, 0),
            ("linker:H2O", "none"): ("H2O", 0, 0),
            ("linker:C12H6O4", "none"): ("C12H8O4", 0, 0),
        },
    ),
    "Nd": Expected(
        {"node:Nd": 2, "linker:C2O4": 4},
        {("node:Nd", "neighbours"): ("C8H5NdO16", 0, 3), ("linker:C2O4", "none"): ("C2H2O4", 0, 0)},
    ),
    "Co": Expected(
        {"node:C2CoO4": 2, "linker:C6H4": 2, "linker:C14H14N4": 2},
        {
            ("node:C2CoO4", "neighbours"): ("C42H38CoN8O4", 0, 3),
            ("linker:C6H4", "neighbours"): ("C66H62Co2N16O8", 0, 6),
            ("linker:C14H14N4", "none"): ("C14H14N4", 0, 0),
        },
    ),
    "Fe": Expected(
        {"node:Fe": 3, "linker:C12H8N5": 6},
        {("node:Fe", "neighbours"): ("C48H34FeN20", 1, 5), ("linker:C12H8N5", "none"): ("C12H9N5", 0, 0)},
    ),
    "Mn": Expected(
        {"node:C14Mn7O28": 1, "linker:C14H6O2": 7},
        {
            ("node:C14Mn7O28", "none"): ("C14H14Mn7O28", 0, 35),
            ("linker:C14H6O2", "neighbours"): ("C42H32Mn14O58", 0, 70),
        },
    ),
}


IONS = {
    "Zn": 2, "Al": 3, "Ca": 2, "Cd": 2, "V": 3, "Cu": 2, "Tb": 3, "Mg": 2, "Nd": 3, "Fe": 3,
    "C4H5N2": -1,  # 2-methylimidazolate
    "C8H4O4": -2,  # terephthalate
    "HO": -1, "Cl": -1, "H2O": 0,
    "C8F4O4": -2,  # tetrafluoroterephthalate
    "C30H18Cl2N2O2": 0,  # a bipyridyl
    "C2H4O6P2": -4,  # ethylenediphosphonate
    "C4H4N2": 0,  # pyrazine
    "C4H2O4": -2,  # fumarate
    "C12H6O4": -2,  # naphthalenedicarboxylate
    "C2O4": -2,  # oxalate
    "C12H8N5": -1,  # bis(pyridyl)triazolate
}  # fmt: skip
CUT_AT_METALS = ("ZIF-8_primitive", "MIL-53-Al", "Ca", "Cd", "V", "Cu", "Tb", "Mg", "Nd", "Fe")


def fragment_of(atoms: Atoms, block: str, mantle: str, which: int = 0) -> Fragment:
    blocks = find_blocks(atoms)
    names = [f"{kind}:{f}" for kind, f in zip(blocks.kinds, blocks.formulas, strict=True)]
    chosen = [k for k, name in enumerate(names) if name == block][which]
    shells = int(mantle[0]) if mantle.endswith("shells") else mantle
    rule = BuildingBlockRule(shells, open_shell="flag")
    return rule.extract(atoms, [Site("f", int(blocks.members(chosen)[0]))], blocks=blocks)


@pytest.mark.parametrize("name", TABLE)
def test_partition(name: str) -> None:
    blocks = find_blocks(structure(name))
    found = Counter(f"{kind}:{f}" for kind, f in zip(blocks.kinds, blocks.formulas, strict=True))
    assert found == TABLE[name].blocks
    assert not blocks.infinite.any()


@pytest.mark.parametrize(
    ("name", "block", "mantle"), [(name, *key) for name, expected in TABLE.items() for key in expected.fragments]
)
def test_one_fragment_per_kind_of_block(name: str, block: str, mantle: str) -> None:
    atoms = structure(name)
    fragment = fragment_of(atoms, block, mantle)
    piece = fragment.atoms
    assert (formula(piece), fragment.charge, fragment.spin) == TABLE[name].fragments[(block, mantle)]
    assert formula(piece[fragment.core]) == block.split(":")[1]
    assert fragment.kind == block
    # The parity of the electrons fits, and metals, in particular, have what they have in the parent.
    assert (int(piece.numbers.sum()) - fragment.charge - fragment.spin) % 2 == 0
    parent, own = bond_graph(atoms), bond_graph(piece)
    for k in np.flatnonzero(np.isin(piece.symbols, ["Zn", "Zr", "Al", "Ca", "Cd", "V", "Cu", "Mg", "Fe", "Si", "Nd"])):
        around = parent.neighbours(int(fragment.parent[k]))
        assert sorted(piece.numbers[own.neighbours(int(k))]) == sorted(atoms.numbers[around])
    real = fragment.parent >= 0
    shift = (piece.positions[real] - atoms.positions[fragment.parent[real]]) @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-7)
    assert not piece.pbc.any()
    if fragment.charge == 0 and not set(piece.symbols) & {"N", "Cl"}:
        # Found anew from its geometry, without knowing which donors were bare, it counts the same.
        bare = [k for k in np.flatnonzero(real) if _lost_a_metal(fragment, int(k), parent, own)]
        assert count_electrons(piece, own, bare) == (0, fragment.spin)


def _lost_a_metal(fragment: Fragment, k: int, parent: BondGraph, own: BondGraph) -> bool:
    return len(parent.neighbours(int(fragment.parent[k]))) > len(own.neighbours(k))


@pytest.mark.parametrize(
    ("name", "block", "mantle"), [(name, *key) for name in CUT_AT_METALS for key in TABLE[name].fragments]
)
def test_the_charge_is_that_of_the_ions_and_protons(name: str, block: str, mantle: str) -> None:
    atoms = structure(name)
    blocks = find_blocks(atoms)
    fragment = fragment_of(atoms, block, mantle)
    labels = Counter(blocks.labels[fragment.parent[fragment.parent >= 0]].tolist())
    ions = sum(n // len(blocks.members(k)) * IONS[blocks.formulas[k]] for k, n in labels.items())
    protons = int((fragment.parent < 0).sum())
    assert set(fragment.atoms.numbers[fragment.parent < 0]) <= {1}
    assert ions + protons == fragment.charge
    azolates = any(rule.name == "metal-N azolate" for rule in blocks.cut_rules)
    assert protons >= -ions if azolates else protons == max(-ions, 0)


@pytest.mark.parametrize("name", ["ZIF-8_primitive", "MIL-53-Al", "Cd", "sodalite"])
def test_warm_frames_give_the_same_formulas(name: str) -> None:
    for seed in range(2):
        warm = perturb(structure(name), displacement=0.05, strain=0.02, rng=np.random.default_rng(seed))
        for (block, mantle), (spelt, charge, spin) in TABLE[name].fragments.items():
            fragment = fragment_of(warm, block, mantle)
            assert (formula(fragment.atoms), fragment.charge, fragment.spin) == (spelt, charge, spin)


@pytest.mark.parametrize(
    ("name", "block", "mantle"),
    [
        ("ZIF-8_primitive", "linker:C4H5N2", "neighbours"),
        ("MIL-53-Al", "node:Al", "neighbours"),
        ("UiO-66_primitive", "node:C12H4O32Zr6", "linkers"),
        ("sodalite", "node:Si", "2 shells"),
    ],
)
def test_fragments_do_not_depend_on_orientation_order_or_images(name: str, block: str, mantle: str) -> None:
    """Protons included: which donors get one is a matter of geometry alone."""
    rng = np.random.default_rng(5)
    atoms = perturb(structure(name), displacement=0.05, strain=0.02, rng=rng)
    index = int(find_blocks(atoms).members(_first(atoms, block))[0])
    rule = BuildingBlockRule(int(mantle[0]) if mantle.endswith("shells") else mantle)
    reference = rule.extract(atoms, [Site("f", index)])
    other, order = moved(atoms, rng)
    changed = rule.extract(other, [Site("g", int(np.flatnonzero(order == index)[0]))])
    assert same_fragment(reference, changed, tolerance=1e-6)
    larger = rule.extract(atoms * (2, 1, 1), [Site("h", index)])
    assert same_fragment(reference, larger, tolerance=1e-6)


@pytest.mark.parametrize(("name", "block"), [("ZIF-8_primitive", "node:Zn"), ("MIL-53-Al", "linker:HO")])
def test_protons_of_a_perfect_crystal_do_not_depend_on_the_order_of_atoms(name: str, block: str) -> None:
    """Its donors are equally far from the core: what else is around them decides."""
    atoms = structure(name)
    index = int(find_blocks(atoms).members(_first(atoms, block))[0])
    reference = BuildingBlockRule().extract(atoms, [Site("f", index)])
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(atoms))
        site = Site("g", int(np.flatnonzero(order == index)[0]))
        assert same_fragment(reference, BuildingBlockRule().extract(atoms[order], [site]), tolerance=1e-4)


def _first(atoms: Atoms, block: str) -> int:
    blocks = find_blocks(atoms)
    return [f"{k}:{f}" for k, f in zip(blocks.kinds, blocks.formulas, strict=True)].index(block)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True), "kind: whole"),
        (bulk("Cu", "fcc", a=3.61, cubic=True), "kind: whole"),
        (bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2), "kind: sphere"),
        (graphene(size=(3, 3, 1), vacuum=8.0), "kind: whole"),
    ],
    ids=["NaCl", "Cu", "Si", "graphene"],
)
def test_where_no_finite_block_makes_sense_it_is_said(atoms: Atoms, message: str) -> None:
    atoms.pbc = True
    with pytest.raises((ExtractionError, StructureError)) as error:
        BuildingBlockRule().extract(atoms, [Site("f", 0)])
    assert message in error.value.todo
    assert error.value.where


@pytest.mark.parametrize("atoms", [bulk("NaCl", "rocksalt", a=5.64, cubic=True), bulk("Cu", cubic=True)])
def test_a_sphere_of_an_ionic_or_metallic_solid_is_refused(atoms: Atoms) -> None:
    with pytest.raises(ExtractionError, match="cannot close ionic or metallic bonds") as error:
        SphericalCut(4.0).extract(atoms, [Site("f", 0)])
    assert "keep the periodic cell" in error.value.todo


@pytest.mark.parametrize("name", ["C6H6", "CH3COOH", "C5H5N", "CH3SH", "SiH4", "C4H4O"])
def test_molecules_are_fragments_as_they_are(name: str) -> None:
    fragment = BuildingBlockRule().extract(molecule(name), [Site("f", 0)])
    assert (formula(fragment.atoms), fragment.charge, fragment.spin) == (formula(molecule(name)), 0, 0)
    assert (fragment.parent >= 0).all()
