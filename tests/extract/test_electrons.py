"""Charge, spin and dangling valences by counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.io import read

from clusterflow.errors import ExtractionError
from clusterflow.extract.electrons import count_electrons, electrons, open_shell_metals, pairing, unsaturated
from clusterflow.physics.bonds import BondGraph, bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"

# Closed-shell molecules that valence counting does not describe: hypovalent, zwitterionic, or metallic.
BEYOND_VALENCES = {"CS", "SiO", "O3", "N2O", "SiH2_s1A1d", "CH2_s1A1d", "LiH", "Li2", "Na2", "Be"}


def topology(symbols: str, bonds: list[tuple[int, int]]) -> tuple[Atoms, BondGraph]:
    """A structure that is only a graph: counting does not look at positions."""
    atoms = Atoms(symbols)
    i, j = np.array(sorted(bonds + [(b, a) for a, b in bonds])).T
    return atoms, BondGraph(len(atoms), i, j, np.zeros((len(i), 3), dtype=np.int64), np.ones(len(i)))


@pytest.mark.parametrize("name", ["UiO-66_primitive", "UiO-66_conventional", "MOF-5_primitive"])
def test_frameworks_are_neutral_and_saturated(name: str) -> None:
    atoms = read(STRUCTURES / f"{name}.extxyz")
    assert unsaturated(atoms, bond_graph(atoms)) == []
    assert count_electrons(atoms, bond_graph(atoms)) == (0, 0)


def test_every_closed_shell_molecule_of_g2_is_neutral() -> None:
    checked = 0
    for name in g2.names:
        atoms = molecule(name)
        if round(abs(atoms.get_initial_magnetic_moments().sum())) or name in BEYOND_VALENCES:
            continue
        assert count_electrons(atoms, bond_graph(atoms)) == (0, 0), name
        checked += 1
    assert checked > 80


@pytest.mark.parametrize(("name", "spin"), [("O2", 2), ("NO", 1), ("NO2", 1), ("CO", 0)])
def test_small_molecules_with_odd_bonding(name: str, spin: int) -> None:
    assert count_electrons(molecule(name), bond_graph(molecule(name))) == (0, spin)


@pytest.mark.parametrize(
    ("name", "dangling"), [("CH3", [0]), ("OH", [0]), ("CH3O", [1]), ("C2H5", [1]), ("NH2", [0]), ("H", [0])]
)
def test_radicals_have_a_dangling_atom(name: str, dangling: list[int]) -> None:
    atoms = molecule(name)
    assert unsaturated(atoms, bond_graph(atoms)) == dangling
    with pytest.raises(ExtractionError, match=r"1 atom\(s\) have a dangling valence"):
        count_electrons(atoms, bond_graph(atoms))


PYRAZINE = [(0, 1), (1, 4), (4, 2), (2, 3), (3, 5), (5, 0)]
RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]


@pytest.mark.parametrize(
    ("symbols", "bonds", "charge"),
    [
        ("ZnO", [(0, 1)], 0),
        ("ZrO", [(0, 1)], 2),
        ("ZnOH", [(0, 1), (1, 2)], 1),
        ("ZnOHH", [(0, 1), (1, 2), (1, 3)], 2),
        ("ZnCl", [(0, 1)], 1),
        ("AlF", [(0, 1)], 2),
        ("ZnOCOH", [(0, 1), (1, 2), (2, 3), (2, 4)], None),  # formate, free oxygen: the charge is on the bound one
        ("ZnOCOHZn", [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5)], 3),  # bridging formate
        ("ZnOCO", [(0, 1), (1, 2), (2, 3)], 2),  # CO2 on an open site
        ("ZnOCOZn", [(0, 1), (1, 2), (2, 3), (3, 4)], None),  # carboxylate without its rest
        ("ZnOCOO", [(0, 1), (1, 2), (2, 3), (2, 4)], None),  # carbonate needs both charged oxygens on a metal
        ("ZnNHHH", [(0, 1), (1, 2), (1, 3), (1, 4)], 2),  # ammine
        ("C4N2H4Zn2", [*PYRAZINE, (0, 6), (1, 7), (2, 8), (3, 9), (4, 10), (5, 11)], 4),
        ("C3N2H3Zn2", [(0, 1), (1, 3), (3, 2), (2, 4), (4, 0), (0, 5), (1, 6), (2, 7), (3, 8), (4, 9)], 3),
        ("C6O2H4Zn2", [*RING, (0, 6), (1, 7), (2, 8), (3, 9), (4, 10), (5, 11), (6, 12), (7, 13)], 2),
        ("C6OH5Zn", [*RING, (0, 6), (1, 7), (2, 8), (3, 9), (4, 10), (5, 11), (6, 12)], 1),
        ("SO3CH3Zn3", [(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (4, 6), (4, 7), (1, 8), (2, 9), (3, 10)], 5),
        ("NH4", [(0, 1), (0, 2), (0, 3), (0, 4)], 1),
        ("BF4", [(0, 1), (0, 2), (0, 3), (0, 4)], -1),
    ],
    ids=[
        "oxide", "oxide-Zr", "hydroxide", "water", "chloride", "fluoride", "formate", "formate-bridge", "CO2",
        "torn-carboxylate", "carbonate", "ammine", "pyrazine", "imidazolate", "catecholate", "phenolate",
        "sulfonate", "ammonium", "borate",
    ],
)  # fmt: skip
def test_charges_of_groups_on_metals(symbols: str, bonds: list[tuple[int, int]], charge: int | None) -> None:
    atoms, graph = topology(symbols, bonds)
    if charge is None:
        if symbols == "ZnOCOH":
            assert count_electrons(atoms, graph) == (1, 0)
        else:
            assert len(unsaturated(atoms, graph)) == 1
        return
    assert count_electrons(atoms, graph)[0] == charge


def test_missing_hydrogen_and_missing_oxide_show() -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    graph = bond_graph(atoms)
    on_carbon = next(h for h in np.flatnonzero(atoms.numbers == 1) if atoms.numbers[graph.neighbours(h)[0]] == 6)
    carbon = int(graph.neighbours(on_carbon)[0])
    broken = atoms.copy()
    del broken[int(on_carbon)]
    assert unsaturated(broken, bond_graph(broken)) == [carbon - (on_carbon < carbon)]

    degree = np.bincount(graph.i[np.isin(graph.j, np.flatnonzero(atoms.numbers == 40))], minlength=len(atoms))
    mu3 = [o for o in np.flatnonzero(atoms.numbers == 8) if degree[o] == 3]
    assert len(mu3) == 8
    bare = atoms.copy()
    bare_oxides = [o for o in mu3 if 1 not in atoms.numbers[graph.neighbours(o)]]
    del bare[bare_oxides]
    assert count_electrons(bare, bond_graph(bare))[0] == 2 * len(bare_oxides)


def test_open_shells() -> None:
    copper, graph = topology("CuOHH", [(0, 1), (1, 2), (1, 3)])
    assert count_electrons(copper, graph) == (2, 1)
    assert open_shell_metals(copper) == ["Cu"]
    assert open_shell_metals(Atoms("ZnZrHfAlMg")) == []


def test_unknown_oxidation_state() -> None:
    with pytest.raises(ExtractionError, match="oxidation state of Os is not known"):
        count_electrons(Atoms("Os"), bond_graph(Atoms("Os")))


def porphyrin(metal: str) -> tuple[Atoms, BondGraph]:
    """A metal porphine C20H12N4M as a graph: M, four N, eight alpha, eight beta, four meso carbons, twelve H."""
    nitrogen = range(1, 5)
    alpha = {n: (5 + 2 * k, 6 + 2 * k) for k, n in enumerate(nitrogen)}
    beta = {n: (13 + 2 * k, 14 + 2 * k) for k, n in enumerate(nitrogen)}
    bonds = []
    for k, n in enumerate(nitrogen):
        (a, b), (c, d) = alpha[n], beta[n]
        bonds += [(0, n), (n, a), (n, b), (a, c), (b, d), (c, d), (c, 25 + 2 * k), (d, 26 + 2 * k)]
        following = alpha[1 + (k + 1) % 4][0]
        bonds += [(b, 21 + k), (21 + k, following), (21 + k, 33 + k)]
    return topology(f"{metal}N4C20H12", bonds)


@pytest.mark.parametrize(("metal", "charge", "spins"), [("Zn", 0, (0,)), ("Zr", 2, (0,)), ("Fe", 1, (1, 3, 5))])
def test_a_porphyrin_is_a_dianion(metal: str, charge: int, spins: tuple[int, ...]) -> None:
    atoms, graph = porphyrin(metal)
    found = electrons(atoms, graph)
    assert (found.charge, found.to_try) == (charge, spins)
    charges = np.array(pairing(atoms, graph).charges)
    assert sorted(charges[1:5]) == [-1, -1, 0, 0]
    assert not charges[5:].any()
    opposite = [k for k in range(4) if charges[1 + k]]
    assert opposite in ([0, 2], [1, 3])


IMIDAZOLE = [(0, 1), (1, 3), (3, 2), (2, 4), (4, 0), (0, 5), (1, 6), (2, 7)]  # C0 C1 C2 N3 N4 H5 H6 H7


@pytest.mark.parametrize(
    ("symbols", "bonds", "bare", "charge"),
    [
        ("C3N2H3", IMIDAZOLE, [3, 4], -1),
        ("C3N2H4", [*IMIDAZOLE, (3, 8)], [4], 0),
        ("C3N2H3Zn", [*IMIDAZOLE, (3, 8)], [4], 1),
        ("C5NH5", [(k, (k + 1) % 6) for k in range(6)] + [(k, 6 + k) for k in range(5)], [5], 0),  # pyridine
        ("C6OH5", [*RING, (0, 6), *[(k, 6 + k) for k in range(1, 6)]], [6], -1),  # phenolate
        ("COOH", [(0, 1), (0, 2), (0, 3)], [1, 2], -1),  # formate
        ("OH", [(0, 1)], [0], -1),
    ],
    ids=["imidazolate", "imidazole", "imidazolate on Zn", "pyridine", "phenolate", "formate", "hydroxide"],
)
def test_donors_that_lost_their_metal(symbols: str, bonds: list[tuple[int, int]], bare: list[int], charge: int) -> None:
    atoms, graph = topology(symbols, bonds)
    assert count_electrons(atoms, graph, bare)[0] == charge
    if charge < 0:
        assert unsaturated(atoms, graph)  # not known to be donors, they dangle


@pytest.mark.parametrize(
    ("symbols", "bonds", "charge"),
    [
        ("NO3", [(0, 1), (0, 2), (0, 3)], -1),
        ("ClO4", [(0, k) for k in range(1, 5)], -1),
        ("SO4", [(0, k) for k in range(1, 5)], -2),
        ("PO4", [(0, k) for k in range(1, 5)], -3),
        ("PF6", [(0, k) for k in range(1, 7)], -1),
        ("SiF6", [(0, k) for k in range(1, 7)], -2),
        ("NaCl", [], 0),
        ("OH3", [(0, 1), (0, 2), (0, 3)], 1),
        # AlO4 of a zeolite, and with a proton on one of its bridges.
        ("AlO4Si4H12", [(0, k) for k in range(1, 5)] + [(k, k + 4) for k in range(1, 5)]
         + [(5 + k // 3, 9 + k) for k in range(12)], -1),
        ("AlO4Si4H13", [(0, k) for k in range(1, 5)] + [(k, k + 4) for k in range(1, 5)]
         + [(5 + k // 3, 9 + k) for k in range(12)] + [(1, 21)], 0),
    ],
    ids=["nitrate", "perchlorate", "sulfate", "phosphate", "PF6", "SiF6", "ions", "hydronium", "Al-zeolite", "acid"],
)  # fmt: skip
def test_ions_and_zeolites(symbols: str, bonds: list[tuple[int, int]], charge: int) -> None:
    atoms = Atoms(symbols)
    if bonds:
        atoms, graph = topology(symbols, bonds)
    else:
        none = np.zeros(0, dtype=np.int64)
        graph = BondGraph(len(atoms), none, none, np.zeros((0, 3), dtype=np.int64), np.zeros(0))
    assert count_electrons(atoms, graph) == (charge, 0)


def test_an_acid_on_a_metal_by_its_carbonyl_is_neutral() -> None:
    """Not the quinoid dianion, which would be a Kekulé structure too."""
    ring = [(k, (k + 1) % 6) for k in range(6)]
    acid = [(0, 6), (6, 8), (6, 9), (3, 7), (7, 10), (7, 11)]  # two COOH on carbons 0 and 3
    protons = [(9, 12), (11, 13)]
    metals = [(8, 18), (10, 19)]
    hydrogens = [(1, 14), (2, 15), (4, 16), (5, 17)]
    atoms, graph = topology("C8O4H6Zn2", [*ring, *acid, *protons, *metals, *hydrogens])
    assert count_electrons(atoms, graph) == (4, 0)


def test_spins_to_try() -> None:
    pair, graph = topology("Cu2OH2", [(0, 2), (1, 2), (2, 3), (2, 4)])
    found = electrons(pair, graph)
    assert (found.charge, found.spin, found.to_try) == (4, 2, (0, 2))
