"""Assembling images of blocks: bonds, images and caps of a piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from clusterflow.errors import ExtractionError
from clusterflow.extract.cut import HOME, Frame, assemble
from clusterflow.extract.termination import Caps
from clusterflow.physics.bonds import bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("name", ["UiO-66_primitive", "UiO-66_conventional", "MOF-5_primitive"])
def test_the_bonds_of_a_piece_are_those_its_geometry_shows(name: str) -> None:
    """The graph is carried over from the parent; finding it anew from distances must give the same."""
    frame = Frame.of(read(STRUCTURES / f"{name}.extxyz"))
    blocks = frame.blocks
    for start in (blocks.kinds.index("node"), blocks.kinds.index("linker")):
        mantle = [(neighbour, image) for _, _, neighbour, image in blocks.links[start]]
        piece = assemble(frame, [(start, HOME)], mantle, [])
        fresh = bond_graph(piece.atoms)
        assert np.array_equal(piece.graph.i, fresh.i)
        assert np.array_equal(piece.graph.j, fresh.j)
        np.testing.assert_allclose(piece.graph.distance, fresh.distance, atol=1e-9)
        assert set(fresh.components()) == {0}


def test_a_block_moved_by_a_cell_is_cut_the_same() -> None:
    frame = Frame.of(read(STRUCTURES / "MOF-5_primitive.extxyz"))
    home = assemble(frame, [(0, HOME)], [], [])
    moved = assemble(frame, [(0, (1, -2, 0))], [], [])
    shift = np.array([1, -2, 0]) @ frame.cell
    np.testing.assert_allclose(moved.atoms.positions, home.atoms.positions + shift, atol=1e-10)


def test_caps_follow_their_old_bonds() -> None:
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    frame = Frame.of(atoms)
    linker = frame.blocks.kinds.index("linker")
    piece = assemble(frame, [(linker, HOME)], [], [], caps=Caps(lengths={"C(sp2,ring)": 1.13}))
    caps = np.flatnonzero(piece.parent < 0)
    assert len(caps) == 2
    for h in caps:
        (carbon,) = piece.graph.neighbours(h).tolist()
        own = int(piece.parent[carbon])
        (link,) = [link for link in frame.links(frame.block(linker)) if link.own == own]
        bond = frame.atoms.positions[link.other] - frame.atoms.positions[own]
        bond += (frame.blocks.offsets[link.other] + link.image - frame.blocks.offsets[own]) @ frame.cell
        cap = piece.atoms.positions[h] - piece.atoms.positions[carbon]
        assert cap @ bond / np.linalg.norm(bond) == pytest.approx(1.13, abs=1e-9)


def test_core_atoms_come_first_whatever_block_holds_them() -> None:
    frame = Frame.of(read(STRUCTURES / "MOF-5_primitive.extxyz"))
    node, linker = frame.blocks.kinds.index("node"), frame.blocks.kinds.index("linker")
    chosen = [int(frame.blocks.members(linker)[2]), int(frame.blocks.members(node)[5])]
    images = [(node, HOME), (linker, HOME), (linker, (1, 0, 0))]
    ordered = assemble(frame, images, [], [])
    piece = assemble(frame, images, [], [], core_atoms=chosen)
    assert set(piece.parent[piece.core]) == set(chosen)
    assert piece.core.tolist() == [True] * 2 + [False] * (len(piece.core) - 2)
    # The copy at home is core, not the other image of the same linker.
    at = piece.atoms.positions[piece.parent == chosen[0]]
    assert len(at) == 2
    np.testing.assert_allclose(at[1] - at[0], frame.cell[0], atol=1e-9)
    # The same molecule, atoms and bonds, only sorted differently.
    assert len(piece.graph.i) == len(ordered.graph.i)
    for p in (piece, ordered):
        vectors = p.atoms.positions[p.graph.j] - p.atoms.positions[p.graph.i]
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), p.graph.distance, atol=1e-12)
    assert sorted(piece.graph.distance) == pytest.approx(sorted(ordered.graph.distance))
    outside = next(k for k in range(len(frame.atoms)) if k not in set(ordered.parent.tolist()))
    with pytest.raises(ExtractionError, match=f"Core atom {outside} is in none"):
        assemble(frame, images, [], [], core_atoms=[outside])


def test_what_a_cut_leaves_bare_is_listed() -> None:
    """A linker of ZIF-8 alone has lost two zinc atoms; its donors remember where they were."""
    frame = Frame.of(read(DATA / "ZIF-8_primitive.extxyz"))
    linker = frame.blocks.kinds.index("linker")
    piece = assemble(frame, [(linker, HOME)], [], [])
    assert (piece.parent >= 0).all()
    assert [piece.atoms.symbols[d.atom] for d in piece.donors] == ["N", "N"]
    for donor in piece.donors:
        assert 1.9 < np.linalg.norm(donor.bond) < 2.1


def test_formate_takes_the_place_of_a_linker_with_its_own_atoms() -> None:
    frame = Frame.of(read(DATA / "MIL-53-Al.extxyz"))
    node = frame.blocks.formulas.index("Al")
    formates = []
    for link in frame.links(frame.block(node)):
        centre = frame.carboxylate_of(link.other)
        formates += [(centre, link.image)] if centre >= 0 else []
    assert len(formates) == 4
    piece = assemble(frame, [(node, HOME)], [], [], formates=formates)
    assert piece.atoms.get_chemical_formula(mode="hill") == "C4H4AlO8"
    fresh = bond_graph(piece.atoms)
    assert np.array_equal(piece.graph.i, fresh.i)
    assert np.array_equal(piece.graph.j, fresh.j)
    aluminium = int(np.flatnonzero(piece.atoms.numbers == 13)[0])
    kept = [link for link in frame.links(frame.block(node)) if frame.carboxylate_of(link.other) >= 0]
    expected = sorted(float(np.linalg.norm(frame.old_bond(link))) for link in kept)
    assert sorted(piece.graph.distance[piece.graph.bonds_of(aluminium)]) == pytest.approx(expected)
