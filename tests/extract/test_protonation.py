"""Which bare donors get a proton."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from clusterflow.extract.cut import HOME, Frame, assemble
from clusterflow.extract.electrons import electrons
from clusterflow.extract.fragment import close
from clusterflow.extract.piece import Piece, add_caps
from clusterflow.extract.protonation import choose_protons

DATA = Path(__file__).parents[1] / "data"


def open_piece(name: str, block: str) -> tuple[Frame, Piece]:
    frame = Frame.of(read(DATA / f"{name}.extxyz"))
    start = frame.blocks.formulas.index(block)
    images, _ = close(frame, [(start, HOME)])
    return frame, assemble(frame, images, [], [], core_atoms=frame.blocks.members(start).tolist())


@pytest.mark.parametrize(
    ("name", "block", "charge", "protons"), [("ZIF-8_primitive", "Zn", -2, 4), ("MIL-53-Al", "Al", -7, 7)]
)
def test_every_azolate_and_else_as_many_as_the_charge_asks(name: str, block: str, charge: int, protons: int) -> None:
    frame, piece = open_piece(name, block)
    bare = [d.atom for d in piece.donors]
    assert electrons(piece.atoms, piece.graph, bare).charge == charge
    chosen = choose_protons(piece, np.full(len(bare), 1.0))
    assert len(chosen) == protons
    for n in range(len(chosen) + 1):  # each of them adds one charge and leaves nothing dangling
        some = [(d.atom, frame.hydrogen(int(piece.parent[d.atom]), d.bond)) for d in chosen[:n]]
        done = add_caps(piece, some)
        assert electrons(done.atoms, done.graph, bare).charge == charge + n


def test_no_carboxylate_gets_two_and_hydroxides_come_first() -> None:
    _, piece = open_piece("MIL-53-Al", "Al")
    chosen = {d.atom for d in choose_protons(piece, np.full(len(piece.donors), 0.97))}
    numbers, graph = piece.atoms.numbers, piece.graph
    hydroxides = {d.atom for d in piece.donors if 1 in numbers[graph.neighbours(d.atom)]}
    assert len(hydroxides) == 2
    assert hydroxides <= chosen
    carbons = [int(c) for d in chosen - hydroxides for c in graph.neighbours(d) if numbers[c] == 6]
    assert len(carbons) == len(set(carbons)) == 5
    # Of the acids the far ends of the four linkers come before the one next to the metal.
    core = piece.atoms.positions[piece.core][0]
    far = sorted(np.linalg.norm(piece.atoms.positions[d] - core) for d in chosen - hydroxides)
    assert far[0] < 4.0 < 8.0 < far[1]


def test_an_azolate_gets_its_proton_in_a_cation_too_and_none_where_it_lost_nothing() -> None:
    frame = Frame.of(read(DATA / "ZIF-8_primitive.extxyz"))
    linker = frame.blocks.kinds.index("linker")
    nodes = [(neighbour, image) for _, _, neighbour, image in frame.blocks.links[linker]]
    piece = assemble(frame, [(linker, HOME)], nodes, [])
    assert piece.donors == ()
    assert choose_protons(piece, np.zeros(0)) == []
    one = assemble(frame, [(linker, HOME)], nodes[:1], [])
    assert len(one.donors) == 1
    assert electrons(one.atoms, one.graph, [one.donors[0].atom]).charge == 1
    assert choose_protons(one, np.ones(1)) == list(one.donors)
    protonated = [replace(d, neutralise=False) for d in one.donors]
    assert choose_protons(replace(one, donors=tuple(protonated)), np.ones(1)) == []


def test_a_linker_alone_becomes_neutral_not_a_cation() -> None:
    frame = Frame.of(read(DATA / "ZIF-8_primitive.extxyz"))
    piece = assemble(frame, [(frame.blocks.kinds.index("linker"), HOME)], [], [])
    assert len(piece.donors) == 2
    assert len(choose_protons(piece, np.ones(2))) == 1
