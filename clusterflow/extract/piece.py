"""A finite, terminated piece of a parent with its bonds, and how caps are put on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.extract.termination import Cap
from clusterflow.physics.bonds import BondGraph


@dataclass(frozen=True, slots=True)
class Donor:
    """A donor ``atom`` of a piece whose partner is not in it: ``bond`` (3,) Å leads to where that was; ``neutralise``:
    its ligand is to be neutral, whatever the charge of the fragment."""

    atom: int
    bond: FloatArray
    neutralise: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A terminated piece: atoms in the order core, mantle, termination; ``parent`` −1 for termination atoms.
    ``donors`` have lost a metal and carry a bare lone pair or a charge."""

    atoms: Atoms
    core: BoolArray
    parent: IntArray
    graph: BondGraph
    donors: tuple[Donor, ...] = ()


def add_caps(piece: Piece, caps: Sequence[tuple[int, Cap]]) -> Piece:
    """The piece with more termination: (atom that carries it, cap) each."""
    if not caps:
        return piece
    bonds = np.stack((piece.graph.i, piece.graph.j), axis=1)
    return make_piece(
        np.asarray(piece.atoms.numbers, dtype=np.int64),
        piece.atoms.positions,
        piece.core,
        piece.parent,
        bonds[bonds[:, 0] < bonds[:, 1]],
        caps,
        piece.donors,
    )


def make_piece(
    numbers: IntArray,
    positions: FloatArray,
    core: BoolArray,
    parent: IntArray,
    bonds: IntArray,
    caps: Sequence[tuple[int, Cap]] = (),
    donors: tuple[Donor, ...] = (),
) -> Piece:
    """A piece from its atoms (n,), bonds (m, 2), each given once, and caps, (atom that carries it, cap) each."""
    n = len(numbers)
    if caps:
        sizes = [len(cap.numbers) for _, cap in caps]
        h = sum(sizes)
        holders = np.repeat(np.array([atom for atom, _ in caps], dtype=np.int64), sizes)
        first = np.repeat(n + np.cumsum([0, *sizes[:-1]]), sizes)
        here = n + np.arange(h)
        bonds = np.concatenate((bonds, np.stack((np.where(here == first, holders, first), here), axis=1)))
        numbers = np.concatenate((numbers, np.array([z for _, cap in caps for z in cap.numbers])))
        positions = np.concatenate((positions, positions[holders] + np.concatenate([cap.vectors for _, cap in caps])))
        core = np.concatenate((core, np.zeros(h, dtype=bool)))
        parent = np.concatenate((parent, np.full(h, -1, dtype=np.int64)))
    i, j = bonds.T
    i, j = np.concatenate((i, j)), np.concatenate((j, i))
    order = np.argsort(i * len(numbers) + j)
    i, j = i[order], j[order]
    vectors = positions[j] - positions[i]
    distance = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    graph = BondGraph(len(numbers), i, j, np.zeros((len(i), 3), dtype=np.int64), distance)
    return Piece(Atoms(numbers=numbers, positions=positions, pbc=False), core, parent, graph, donors)
