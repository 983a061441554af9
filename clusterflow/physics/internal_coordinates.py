"""Bond lengths, angles and dihedral angles of a structure whose bonds are fixed by a reference.

The list of bonds comes from the reference and stays, so that a bond that is stretched far beyond what counts as one is
measured, not lost. Types are made of the atoms' elements, or of their elements and those bonded to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import InputError
from clusterflow.physics.bonds import BondGraph, bond_graph

LINEAR = 0.1
"""Sine of an angle below which a dihedral angle over it is noise (within 5.7° of straight)."""


@dataclass(frozen=True)
class InternalCoordinates:
    """Bonds, angles and dihedrals of a reference structure, as places in its list of bonds.

    ``numbers`` (n,); ``i``, ``j`` (b,) atoms of each bond and ``vectors`` (b, 3) from i to j in cell vectors (in Å for
    what is not periodic) in the reference; ``angles`` (a, 2) and ``dihedrals`` (d, 3): directed bonds, where bond k
    is 2k from i to j and 2k + 1 from j to i. The two of an angle leave its central atom; those of a dihedral
    i–j–k–l are j→i, j→k and k→l. ``bond_atoms`` (b, 2), ``angle_atoms`` (a, 3), ``dihedral_atoms`` (d, 4).
    """

    numbers: IntArray
    vectors: FloatArray
    angles: IntArray
    dihedrals: IntArray
    bond_atoms: IntArray
    angle_atoms: IntArray
    dihedral_atoms: IntArray

    @classmethod
    def of(cls, reference: Atoms, graph: BondGraph | None = None) -> InternalCoordinates:
        """All of them in this structure; ``graph``: its bonds, if they are known."""
        graph = graph or bond_graph(reference)
        once = np.flatnonzero(graph.once)
        directed = np.empty(len(graph.i), dtype=np.int64)  # place in the graph → directed bond
        directed[once] = 2 * np.arange(len(once))
        directed[graph.reverse[once]] = 2 * np.arange(len(once)) + 1
        first, second = _pairs_leaving(graph)
        a, b, c = _chains(graph)
        vectors = reference.positions[graph.j[once]] - reference.positions[graph.i[once]]
        if reference.pbc.any():
            vectors = vectors + graph.shift[once] @ reference.cell.array
        return cls(
            numbers=np.asarray(reference.numbers, dtype=np.int64),
            vectors=np.linalg.solve(_cell(reference).T, vectors.T).T,
            angles=np.column_stack((directed[first], directed[second])),
            dihedrals=np.column_stack((directed[a], directed[b], directed[c])),
            bond_atoms=np.column_stack((graph.i[once], graph.j[once])),
            angle_atoms=np.column_stack((graph.j[first], graph.i[first], graph.j[second])),
            dihedral_atoms=np.column_stack((graph.j[a], graph.i[a], graph.j[b], graph.j[c])),
        )

    def values(self, atoms: Atoms) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lengths (b,) in Å, angles (a,) and dihedral angles (d,) in °, both from 0 to 180. A dihedral is NaN where one
        of its angles is straight, and has no sign: that of the mirror image counts as the same.

        Atoms may have been wrapped into the cell: each bond is the image nearest to that of the reference.

        Raises
        ------
        InputError
            Other atoms than the reference has, or positions that are not finite.
        """
        if not np.array_equal(atoms.numbers, self.numbers):
            raise InputError(
                f"A frame of {len(atoms)} atoms ({atoms.get_chemical_formula()}) is not one of the reference with "
                f"{len(self.numbers)} atoms, or has them in another order.",
                todo="Internal coordinates follow the bonds of one structure: give frames of it, atoms in its order.",
            )
        cell = _cell(atoms)
        if not (np.isfinite(atoms.positions).all() and np.isfinite(cell).all()):
            raise InputError("A frame has positions or a cell that are not finite.", todo="Leave it out.")
        between = atoms.positions[self.bond_atoms[:, 1]] - atoms.positions[self.bond_atoms[:, 0]]
        if atoms.pbc.any():
            scaled = np.linalg.solve(cell.T, between.T).T
            between = (scaled - np.round(scaled - self.vectors) * atoms.pbc) @ cell
        directed = np.empty((2 * len(between), 3))
        directed[0::2], directed[1::2] = between, -between
        return np.linalg.norm(between, axis=1), self._angles(directed), self._dihedrals(directed)

    def _angles(self, directed: FloatArray) -> FloatArray:
        u, v = directed[self.angles[:, 0]], directed[self.angles[:, 1]]
        sine = np.linalg.norm(np.cross(u, v), axis=1)
        angles: FloatArray = np.degrees(np.arctan2(sine, np.einsum("ij,ij->i", u, v)))
        return angles

    def _dihedrals(self, directed: FloatArray) -> FloatArray:
        back, middle, on = (directed[self.dihedrals[:, k]] for k in range(3))
        first, second = np.cross(middle, back), np.cross(middle, on)
        size = [np.linalg.norm(v, axis=1) for v in (back, middle, on, first, second)]
        along = np.einsum("ij,ij->i", np.cross(first, second), middle)
        with np.errstate(divide="ignore", invalid="ignore"):
            angle: FloatArray = np.degrees(np.arctan2(np.abs(along) / size[1], np.einsum("ij,ij->i", first, second)))
        straight = (size[3] < LINEAR * size[0] * size[1]) | (size[4] < LINEAR * size[2] * size[1])
        angle[straight] = np.nan
        return angle


def atom_types(reference: Atoms, by: str, graph: BondGraph | None = None) -> list[str]:
    """Type of each atom: its ``element``, or with ``neighbours`` also the elements bonded to it, as in ``C(COO)``.

    Raises
    ------
    InputError
        Another word.
    """
    symbols: list[str] = reference.get_chemical_symbols()
    if by == "element":
        return symbols
    if by != "neighbours":
        raise InputError(f"'{by}' is no way to tell types of atom apart.", todo="Take 'element' or 'neighbours'.")
    graph = graph or bond_graph(reference)
    return [f"{s}({''.join(sorted(symbols[b] for b in graph.neighbours(a)))})" for a, s in enumerate(symbols)]


def type_names(atoms: IntArray, types: Sequence[str]) -> tuple[list[str], IntArray]:
    """Different types of bond, angle or dihedral, sorted, like ``C-O-Zn``, and which of them each is.

    ``atoms`` (m, k) in the order of the bonds; a chain and its reverse are the same type.
    """
    if not len(atoms):
        return [], np.zeros(0, dtype=np.int64)
    names, of_atom = np.unique(np.array(types), return_inverse=True)
    chains = of_atom[atoms]
    backward = chains[:, ::-1]
    unequal = chains != backward
    first = np.argmax(unequal, axis=1)
    row = np.arange(len(chains))
    turn = unequal.any(axis=1) & (chains[row, first] > backward[row, first])
    kinds, which = np.unique(np.where(turn[:, None], backward, chains), axis=0, return_inverse=True)
    return ["-".join(str(names[k]) for k in kind) for kind in kinds], np.asarray(which, dtype=np.int64).reshape(-1)


def _cell(atoms: Atoms) -> FloatArray:
    cell: FloatArray = atoms.cell.complete().array if atoms.pbc.any() else np.eye(3)
    return cell


def _pairs_leaving(graph: BondGraph) -> tuple[IntArray, IntArray]:
    """Places of all pairs of bonds that leave the same atom, each pair once."""
    end = graph.first[graph.i + 1]
    here = np.arange(len(graph.i))
    count = end - here - 1
    first = np.repeat(here, count)
    start = np.repeat(np.r_[0, np.cumsum(count)[:-1]] if len(count) else count, count)
    return first, first + 1 + np.arange(count.sum()) - start


def _chains(graph: BondGraph) -> tuple[IntArray, IntArray, IntArray]:
    """Places of the bonds j→i, j→k, k→l of every chain of four different atoms (images count as different), once."""
    middle = np.flatnonzero(graph.once)
    degree = np.diff(graph.first)
    left, right = degree[graph.i[middle]], degree[graph.j[middle]]
    count = left * right
    b = np.repeat(middle, count)
    place = np.arange(count.sum()) - np.repeat(np.r_[0, np.cumsum(count)[:-1]] if len(count) else count, count)
    width = np.repeat(right, count)
    a = graph.first[graph.i[b]] + place // np.maximum(width, 1)
    c = graph.first[graph.j[b]] + place % np.maximum(width, 1)
    closed = (graph.j[a] == graph.j[c]) & (graph.shift[a] == graph.shift[b] + graph.shift[c]).all(axis=1)
    keep = (a != b) & (c != graph.reverse[b]) & ~closed
    return a[keep], b[keep], c[keep]
