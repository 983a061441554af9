"""Assembling images of blocks: bonds, images and caps of a piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from clusterflow.extract.cut import HOME, Frame, assemble
from clusterflow.physics.bonds import bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


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
    piece = assemble(frame, [(linker, HOME)], [], [])
    caps = np.flatnonzero(piece.parent < 0)
    assert len(caps) == 2
    for h in caps:
        (carbon,) = piece.graph.neighbours(h).tolist()
        own = int(piece.parent[carbon])
        (link,) = [link for link in frame.links(linker) if link.own == own]
        bond = frame.atoms.positions[link.other] - frame.atoms.positions[own]
        bond += (frame.blocks.offsets[link.other] + link.image - frame.blocks.offsets[own]) @ frame.cell
        cap = piece.atoms.positions[h] - piece.atoms.positions[carbon]
        assert cap @ bond / np.linalg.norm(bond) == pytest.approx(1.09, abs=1e-9)


def test_a_group_of_a_rod_is_joined_around_its_link() -> None:
    """In an endless node no choice of images is consistent; the carboxylate at the end of a linker still is whole."""
    from ase import Atoms

    rod = Atoms("MgO", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[4.0, 12, 25], pbc=True)
    rod += Atoms("OCO", positions=[[0, 1.1, 2.0], [0, 0, 2.6], [0, -1.1, 2.0]])
    rod += Atoms("CHHH", positions=[[0, 0, 4.1], [0, 1.0, 4.5], [0.9, -0.5, 4.5], [-0.9, -0.5, 4.5]])
    rod.wrap()
    frame = Frame.of(rod)
    ((_, _, _, image),) = frame.blocks.links[1]
    piece = assemble(frame, [(1, HOME)], [], [(0, image)])
    assert piece.atoms.get_chemical_formula(mode="hill") == "C2H4O2"
    assert set(bond_graph(piece.atoms).components()) == {0}
