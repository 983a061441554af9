"""Finds periodic structures that are the same, whatever cell describes them: another basis of the lattice, a supercell,
turned, moved, mirrored, atoms in another order.

Atoms are compared by what surrounds them: the distances to the nearest atoms of each element. Two structures are the
same if they have the same composition and density, and all surroundings occur in both, in the same shares.
Sorted distances move by no more than the atoms do, so a tolerance needs no bins. Structures that differ only in what
lies farther apart than `REACH`, such as two vacancies 15 or 16 Å from each other, count as the same: one of them is
then not trained on though it might have been, and no test structure is ever trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import digest
from clusterflow.selection.duplicates import TOLERANCE

REACH = 8.0
"""Å: farther neighbours do not count."""
NEAREST = 24
"""Neighbours of each element that count."""


@dataclass(frozen=True)
class Surroundings:
    """Invariants of a periodic structure: ``numbers`` (n,) of its atoms; ``distances`` (n, d) in Å, of each atom to the
    nearest of each element, ascending, `REACH` where there are fewer; ``edge`` of the cube that an atom has for itself
    in Å (0 unless all three directions are periodic); in how many directions it is periodic."""

    numbers: IntArray
    distances: FloatArray
    edge: float
    directions: int

    @cached_property
    def composition(self) -> str:
        """Hash of the elements and their ratios."""
        kinds, counts = np.unique(self.numbers, return_counts=True)
        counts //= gcd(*counts.tolist()) or 1
        return digest(kinds.astype("<i8").tobytes(), counts.astype("<i8").tobytes(), bytes([self.directions]))

    def matches(self, other: Surroundings, tolerance: float = TOLERANCE) -> bool:
        """The same up to ``tolerance`` (Å) in every distance."""
        if self.composition != other.composition or abs(self.edge - other.edge) > tolerance:
            return False
        for z in np.unique(self.numbers):
            mine, its = (s.distances[s.numbers == z] for s in (self, other))
            if not (_occur(mine, its, tolerance) and _occur(its, mine, tolerance)):
                return False
        return True

    def hash(self, decimals: int) -> str:
        """Equal for the same structure, unless a distance lies on the edge of rounding."""
        grid = 10.0**decimals
        rows = np.column_stack((self.numbers, np.rint(self.distances * grid))).astype("<i8")
        different, counts = np.unique(rows, axis=0, return_counts=True)
        counts //= gcd(*counts.tolist()) or 1  # a supercell has each of them more often
        edge = np.rint(np.array([self.edge]) * grid).astype("<i8")
        return digest(self.composition, different.tobytes(), counts.astype("<i8").tobytes(), edge.tobytes())


def _occur(these: FloatArray, those: FloatArray, tolerance: float) -> bool:
    """Whether all of these rows are among those, and the share of each is no smaller there."""
    own, other, near = cKDTree(these), cKDTree(those), tolerance + 1e-9
    if (other.query(these, p=np.inf, distance_upper_bound=2.0 * tolerance)[0] > near).any():
        return False
    here = own.query_ball_point(these, near, p=np.inf, return_length=True)
    there = other.query_ball_point(these, 2.0 * near, p=np.inf, return_length=True)
    return bool((there * len(these) >= here * len(those)).all())


def surroundings(atoms: Atoms) -> Surroundings:
    """Of a structure that is periodic in one direction at least."""
    from matscipy.neighbours import neighbour_list

    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    elements, rank = np.unique(numbers, return_inverse=True)
    found = np.full((len(atoms), len(elements), NEAREST), REACH)
    if len(atoms):
        cell = atoms.cell.complete().array
        i, j, d = neighbour_list("ijd", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=REACH)
        order = np.lexsort((d, rank[j], i))
        i, kind, d = i[order], rank[j][order], d[order]
        first = np.ones(len(i), dtype=bool)
        first[1:] = (i[1:] != i[:-1]) | (kind[1:] != kind[:-1])
        place = np.arange(len(i)) - np.maximum.accumulate(np.where(first, np.arange(len(i)), 0))
        near = place < NEAREST
        found[i[near], kind[near], place[near]] = d[near]
    edge = float((atoms.get_volume() / max(len(atoms), 1)) ** (1.0 / 3.0)) if atoms.pbc.all() else 0.0
    return Surroundings(numbers, found.reshape(len(atoms), len(elements) * NEAREST), edge, int(atoms.pbc.sum()))
