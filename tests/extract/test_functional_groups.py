from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from matscipy.neighbours import neighbour_list

from clusterflow.core.frames import content_hash
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.functional_groups import (
    GroupedPiece,
    completed,
    entities,
    grouped,
    growth,
)
from clusterflow.extract.group_cut import cut_groups, in_frame, reference_piece
from clusterflow.extract.termination import LENGTHS, Caps
from clusterflow.physics.bonds import BondGraph, bond_graph

DATA = Path(__file__).parents[1] / "data"
STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
ZN, O_CENTRE = 0, 80


@pytest.fixture(scope="module")
def mof5() -> Atoms:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    assert atoms.symbols[O_CENTRE] == "O"
    return atoms


@pytest.fixture(scope="module")
def around_zinc(mof5: Atoms) -> tuple[GroupedPiece, int]:
    return reference_piece(mof5, ZN, 9.0)


def hexatriene() -> Atoms:
    """All-trans, ideal angles: an even zigzag of C–C 1.46 and C=C 1.34 Å."""
    angle = np.deg2rad(30.0)
    points, directions = [np.zeros(3)], []
    for k in range(5):
        step = np.array([np.cos(angle), np.sin(angle) * (-1) ** k, 0.0])
        directions.append(step)
        points.append(points[-1] + step * (1.34, 1.46)[k % 2])
    x = np.array(points)
    hydrogens = []
    for k in range(6):
        arms = [x[m] - x[k] for m in (k - 1, k + 1) if 0 <= m < 6]
        inward = sum(a / np.linalg.norm(a) for a in arms)
        if len(arms) == 2:
            hydrogens.append(x[k] - 1.09 * inward / np.linalg.norm(inward))
        else:
            turn = np.deg2rad(120.0)
            for sign in (1, -1):
                c, s = np.cos(turn), sign * np.sin(turn)
                hydrogens.append(
                    x[k] + 1.09 * np.array([c * inward[0] - s * inward[1], s * inward[0] + c * inward[1], 0])
                )
    return Atoms("C6H8", np.concatenate((x, np.array(hydrogens))))


def test_groups_of_a_polyene_are_its_double_bonds_and_of_an_alkane_its_carbons() -> None:
    piece = grouped(hexatriene())
    assert [piece.name(g) for g in range(3)] == ["C2H3@0", "C2H2@2", "C2H3@4"]
    assert piece.bonded == (frozenset({1}), frozenset({0, 2}), frozenset({1}))
    alkane = read(STRUCTURES / "molecules" / "hexadecane.extxyz")
    assert sorted(len(g) for g in grouped(alkane).groups) == [3] * 14 + [4] * 2


def test_groups_of_a_framework_piece_are_cluster_carboxylates_and_rings(around_zinc: tuple[GroupedPiece, int]) -> None:
    piece, site = around_zinc
    names = {piece.name(g).split("@")[0] for g in range(len(piece.groups))}
    assert {"OZn4", "CO2"} <= names
    assert all(n.startswith(("C6H", "CO2", "CHO2", "CH", "OZn4")) for n in names), names
    assert piece.atoms.symbols[site] == "Zn"
    assert (piece.charge, piece.spin) == (0, 0)


@pytest.mark.parametrize("site", [0, 8, 44, 80])
def test_reference_piece_holds_every_atom_within_the_radius(mof5: Atoms, site: int) -> None:
    radius = 7.0
    piece, place = reference_piece(mof5, site, radius)
    assert piece.parent[place] == site
    i, j, d = neighbour_list("ijd", mof5, radius)
    wanted = sorted(zip(np.round(d[i == site], 6), j[i == site].tolist(), strict=True))
    real = (piece.parent >= 0) & (piece.distances(place) < radius) & (np.arange(len(piece.atoms)) != place)
    found = sorted(zip(np.round(piece.distances(place)[real], 6), piece.parent[real].tolist(), strict=True))
    assert sorted(w[1] for w in wanted) == sorted(f[1] for f in found)
    assert np.allclose([w[0] for w in wanted], [f[0] for f in found], atol=1e-5)


def test_a_molecule_is_its_own_reference() -> None:
    piece, place = reference_piece(hexatriene(), 3, 1.0)
    assert len(piece.atoms) == 14
    assert place == 3


def test_fragments_grow_from_the_site_and_keep_metals_whole(around_zinc: tuple[GroupedPiece, int]) -> None:
    piece, site = around_zinc
    steps = growth(piece, site)
    assert len(steps) >= 3
    assert all(a < b for a, b in pairwise(steps))
    assert len(steps[-1]) == len(piece.groups)
    for kept in steps:
        fragment, graph = cut_groups(piece, kept, site)
        assert (fragment.charge, fragment.spin) == (0, 0)
        zinc = np.flatnonzero(fragment.atoms.numbers == 30)
        assert all(len(graph.neighbours(k)) == 4 for k in zinc)
        mine = fragment.parent >= 0
        assert np.array_equal(fragment.atoms.positions[mine], piece.atoms.positions[fragment.parent[mine]])


def test_metals_pull_in_what_they_are_bonded_to(around_zinc: tuple[GroupedPiece, int]) -> None:
    piece, site = around_zinc
    cluster = int(piece.labels[site])
    assert completed(piece, {cluster}) == {cluster} | piece.bonded[cluster]
    with pytest.raises(ExtractionError, match=r"Zn\d+–O\d+ would be cut"):
        cut_groups(piece, {cluster}, site)


def test_a_cluster_and_its_carboxylates_are_one_entity(around_zinc: tuple[GroupedPiece, int]) -> None:
    piece, site = around_zinc
    cluster = int(piece.labels[site])
    found = entities(piece, range(len(piece.groups)))
    assert sorted(g for entity in found for g in entity) == list(range(len(piece.groups)))
    assert tuple(sorted({cluster} | piece.bonded[cluster])) in found
    rings = [e for e in found if len(e) == 1 and piece.name(e[0]).startswith("C6H")]
    assert len(rings) == 6
    assert entities(piece, [cluster, rings[0][0]]) == sorted([(cluster,), rings[0]])


def test_a_carboxylate_without_its_metal_becomes_an_acid(mof5: Atoms) -> None:
    carbon = int(np.flatnonzero(mof5.numbers == 6)[0])
    graph = bond_graph(mof5)
    while sorted(mof5.numbers[graph.neighbours(carbon)]) != [6, 8, 8]:
        carbon += 1
    piece, site = reference_piece(mof5, carbon, 5.0)
    fragment, bonds = cut_groups(piece, {int(piece.labels[site])}, site)
    assert fragment.atoms.get_chemical_formula() == "CH2O2"
    caps = np.flatnonzero(fragment.parent < 0)
    held = {fragment.atoms.symbols[bonds.neighbours(k)[0]]: float(bonds.distance[bonds.bonds_of(k)][0]) for k in caps}
    assert held == pytest.approx({"C": LENGTHS["C(carboxylate)"], "O": LENGTHS["O(carboxyl)"]})


@pytest.mark.parametrize(
    ("name", "site", "radius"),
    [
        ("ZIF-8_primitive", 32, 4.0),
        ("ZIF-8_primitive", 102, 5.0),
        ("ZIF-8_primitive", 130, 10.0),
        ("MIL-53-Al", 0, 5.0),
        ("MIL-53-Al", 62, 5.0),
        ("MIL-53-Al", 56, 8.0),
    ],
)
def test_donors_that_lost_their_metal_are_protonated(name: str, site: int, radius: float) -> None:
    """Closed shells of a ZIF and of a rod. Carboxylates and hydroxides are protonated as neutrality asks, azolates
    always: what stays of the charge is that of the zinc ions less one for each imidazolate between two of them."""
    frame = read(DATA / f"{name}.extxyz")
    before = bond_graph(frame)
    metal = int(frame.numbers.max())
    wanted = len(before.neighbours(int(np.flatnonzero(frame.numbers == metal)[0])))
    piece, place = reference_piece(frame, site, radius)
    assert piece.parent[place] == site
    assert (piece.charge, piece.spin) == (_charge(piece.atoms, piece.graph), 0)
    steps = growth(piece, place)
    assert len(steps) > 3
    for kept in steps:
        fragment, graph = cut_groups(piece, kept, place)
        assert (fragment.charge, fragment.spin) == (_charge(fragment.atoms, graph), 0), fragment.kind
        assert all(len(graph.neighbours(k)) == wanted for k in np.flatnonzero(fragment.atoms.numbers == metal))
        electrons_left = int(fragment.atoms.numbers.sum()) - fragment.charge
        assert electrons_left % 2 == 0
        found = bond_graph(fragment.atoms)
        assert np.array_equal(found.i, graph.i)  # protons sit where they bind one atom
        assert np.array_equal(found.j, graph.j)


def _charge(atoms: Atoms, graph: BondGraph) -> int:
    """0 for a rod; for a ZIF zinc's less that of the ligands, each of two N of which one may hold hydrogen."""
    held = [{atoms.symbols[b] for b in graph.neighbours(n)} for n in np.flatnonzero(atoms.numbers == 7).tolist()]
    protonated = sum("H" in partners for partners in held)
    assert protonated >= sum(not {"H", "Zn"} & partners for partners in held)  # a ring with neither Zn has one
    return 2 * int((atoms.numbers == 30).sum()) - (len(held) // 2 - protonated)


def test_protons_of_the_piece_are_left_out_where_a_fragment_would_be_positive() -> None:
    """On a rod the reference protonates carboxylates of each aluminium; of a part of the rod that is one too many."""
    piece, place = reference_piece(read(DATA / "MIL-53-Al.extxyz"), 56, 8.0)
    gone = []
    for kept in growth(piece, place)[:-1]:
        fragment, _ = cut_groups(piece, kept, place)
        members = np.flatnonzero(np.isin(piece.labels, sorted(kept)))
        lost = np.setdiff1d(members, fragment.parent)
        assert set(lost.tolist()) <= set(piece.protons.tolist())
        assert fragment.charge == 0
        gone.append(len(lost))
    assert max(gone) > 0


def test_groups_of_a_zif_and_of_a_rod_are_metals_and_ligands() -> None:
    zif, place = reference_piece(read(DATA / "ZIF-8_primitive.extxyz"), 102, 5.0, max_cost=1.0)
    names = {zif.name(g).split("@")[0] for g in range(len(zif.groups))}
    assert names <= {"Zn", "C4H5N2", "C4H6N2"}, names
    assert len(entities(zif, range(len(zif.groups)))) == len(zif.groups)  # rings do not tie a net together
    assert [zif.name(g).split("@")[0] for g in growth(zif, place)[0]] == ["C4H5N2"]
    rod, _ = reference_piece(read(DATA / "MIL-53-Al.extxyz"), 0, 5.0)
    assert sum(rod.name(g).startswith("Al@") for g in range(len(rod.groups))) == 3


def test_t_atoms_keep_their_neighbours() -> None:
    """Disilane with one Si named a T atom: the group that holds it pulls in the other, and not the other way round."""
    atoms = molecule("Si2H6")
    near = [k for k in range(2, 8) if atoms.get_distance(0, k) < 1.6]
    halves = [[0, *near], [k for k in range(1, 8) if k not in near]]
    assert completed(grouped(atoms, halves), {0}) == {0}
    assert completed(grouped(atoms, halves, tetrahedral=np.array([0])), {0}) == {0, 1}
    assert completed(grouped(atoms, halves, tetrahedral=np.array([0])), {1}) == {1}


def test_a_fragment_can_be_told_in_indices_of_the_frame(mof5: Atoms) -> None:
    piece, place = reference_piece(mof5, 32, 5.0)
    fragment, _ = cut_groups(piece, growth(piece, place)[1], place)
    told = in_frame(piece, fragment, mof5)
    assert place != 32
    here = int(np.flatnonzero(fragment.parent == place)[0])
    assert told.parent[here] == 32
    assert [(s.frame_id, s.index) for s in told.sites] == [(content_hash(mof5), 32)]
    real = told.parent >= 0
    assert np.array_equal(mof5.numbers[told.parent[real]], told.atoms.numbers[real])
    assert (told.parent[fragment.parent < 0] == -1).all()


def test_caps_lie_along_the_cut_bond_at_the_length_asked_for() -> None:
    piece = grouped(hexatriene())
    fragment, _ = cut_groups(piece, {0, 1}, 0, caps=Caps(lengths={"C(sp2)": 1.05}))
    assert fragment.atoms.get_chemical_formula() == "C4H6"
    cap = fragment.atoms.positions[-1] - piece.atoms.positions[3]
    bond = piece.atoms.positions[4] - piece.atoms.positions[3]
    assert np.linalg.norm(cap) == pytest.approx(1.05)
    assert np.allclose(np.cross(cap, bond), 0.0, atol=1e-12)


def test_bad_groups_and_sites_are_refused(mof5: Atoms) -> None:
    with pytest.raises(InputError, match=r"atoms \[2\] are in none or in several"):
        grouped(molecule("H2O"), [[0], [1]])
    with pytest.raises(InputError, match=r"atoms \[1\] are in none or in several"):
        grouped(molecule("H2O"), [[0, 1], [1, 2]])
    with pytest.raises(InputError, match="this one is periodic"):
        grouped(mof5)
    with pytest.raises(InputError, match="no atom 106: the structure has 106 atoms"):
        reference_piece(mof5, 106, 5.0)
    with pytest.raises(InputError, match="radius of -1"):
        reference_piece(mof5, 0, -1.0)
    piece = grouped(hexatriene())
    with pytest.raises(ExtractionError, match="do not hold the site"):
        cut_groups(piece, {0}, 5)


def test_a_double_bond_cannot_be_cut() -> None:
    """Removing half of C=C leaves a dangling valence, which is refused and not papered over."""
    atoms = molecule("C2H4")
    halves = [[0, *[k for k in range(2, 6) if atoms.get_distance(0, k) < 1.3]]]
    halves.append([k for k in range(6) if k not in halves[0]])
    with pytest.raises(ExtractionError, match="dangling valence"):
        cut_groups(grouped(atoms, halves), {0}, 0)
