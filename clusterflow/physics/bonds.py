"""The periodic bond graph of a structure, and a check for overlapping atoms.

Bonds come from distances only, with thresholds per pair of elements that leave room for thermal motion. Two rules of
chemistry take out what a generous threshold lets in too much: hydrogen keeps its shortest bond only, and a stretched
pair of atoms that share a closer neighbour is a 1,3 contact, not a bond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.errors import StructureError
from clusterflow.physics.elements import COVALENT_RADII, is_metal

COVALENT_FACTOR = 1.38
"""Longest bond between two non-metals, in sums of covalent radii (C–C: 2.10 Å)."""
METAL_FACTOR = 1.30
"""Longest bond between a metal and a donor atom."""
HYDROGEN_FACTOR = 1.65
"""Longest bond of hydrogen (O–H: 1.60 Å); generous, since hydrogen keeps its nearest partner only."""
PEROXIDE_FACTOR = 1.25
"""Longest bond between two atoms of O or F, whose non-bonded contacts in carboxylates are as short as 2.0 Å."""
STRETCHED = 1.12
"""Beyond this many sums of covalent radii two atoms with a closer common neighbour are a 1,3 contact."""

HOLD = 1.15
"""A bond of the previous frame lasts up to this factor beyond the usual limit,"""
FORM = 0.95
"""and a new one forms only below this part of it."""

_SMALL_NEGATIVE = frozenset({8, 9})


@dataclass(frozen=True)
class BondGraph:
    """Bonds of a structure, each listed in both directions, sorted by ``i``, then ``j``, then ``shift``.

    ``i``, ``j`` (m,) atoms; ``shift`` (m, 3) whole cells to add to atom j, so that the bond vector is
    ``positions[j] + shift @ cell − positions[i]``; ``distance`` (m,) in Å.
    """

    n_atoms: int
    i: IntArray
    j: IntArray
    shift: IntArray
    distance: FloatArray

    @cached_property
    def first(self) -> IntArray:
        """(n_atoms + 1,): bonds of atom a are entries first[a] to first[a + 1]."""
        return np.searchsorted(self.i, np.arange(self.n_atoms + 1)).astype(np.int64)

    @cached_property
    def reverse(self) -> IntArray:
        """(m,): place of the same bond seen from its other end."""
        s = self.shift
        return np.lexsort((-s[:, 2], -s[:, 1], -s[:, 0], self.i, self.j)).astype(np.int64)

    @cached_property
    def once(self) -> BoolArray:
        """(m,) bool: of the two directions of every bond the one that is listed first."""
        return np.asarray(np.arange(len(self.i)) < self.reverse)

    def bonds_of(self, atom: int) -> slice:
        """The entries of ``i``, ``j``, ``shift`` and ``distance`` that belong to one atom."""
        return slice(int(self.first[atom]), int(self.first[atom + 1]))

    def neighbours(self, atom: int) -> IntArray:
        """Indices of the atoms bonded to one atom (twice the same if by two images)."""
        return self.j[self.bonds_of(atom)]

    def components(self, keep: BoolArray | None = None) -> IntArray:
        """(n_atoms,) label of the connected component of each atom; ``keep`` (m,) selects the bonds that count.

        Labels are numbered by the lowest atom index in each component.
        """
        i, j = (self.i, self.j) if keep is None else (self.i[keep], self.j[keep])
        matrix = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(self.n_atoms, self.n_atoms))
        _, labels = connected_components(matrix, directed=False)
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        return np.asarray(rank[inverse], dtype=np.int64)

    def unwrap(self, keep: BoolArray | None = None) -> tuple[IntArray, IntArray, BoolArray]:
        """Joins every component across the boundary.

        Returns ``labels`` (n_atoms,), as of `components`; ``offsets`` (n_atoms, 3), the cells to add to each atom so
        that its component is whole (zero for the lowest atom of each); and ``infinite`` (n_components,) bool: the
        component is bonded to its own image, so that no choice of offsets makes it whole.
        """
        labels = self.components(keep)
        i, j, shift = (self.i, self.j, self.shift) if keep is None else (self.i[keep], self.j[keep], self.shift[keep])
        offsets = np.zeros((self.n_atoms, 3), dtype=np.int64)
        parent, levels = self.spanning_tree(keep, labels)
        for level in levels[1:]:
            bonds = parent[level]
            offsets[level] = offsets[self.i[bonds]] + self.shift[bonds]
        loops = (offsets[i] + shift != offsets[j]).any(axis=1)
        infinite = np.zeros(int(labels.max(initial=-1)) + 1, dtype=bool)
        infinite[labels[i[loops]]] = True
        return labels, offsets, infinite

    def spanning_tree(
        self, keep: BoolArray | None = None, labels: IntArray | None = None
    ) -> tuple[IntArray, list[IntArray]]:
        """A breadth-first tree of every component, from its lowest atom; ``labels``, if known, as of `components`.

        Returns the bond (n_atoms,) by which each atom was reached (−1: a root), and the atoms level by level.
        """
        kept = np.arange(len(self.i)) if keep is None else np.flatnonzero(keep)
        i, j = self.i[kept], self.j[kept]
        first = np.searchsorted(i, np.arange(self.n_atoms + 1))
        _, frontier = np.unique(self.components(keep) if labels is None else labels, return_index=True)
        parent = np.full(self.n_atoms, -1, dtype=np.int64)
        seen = np.zeros(self.n_atoms, dtype=bool)
        seen[frontier] = True
        levels = []
        while len(frontier):  # one whole level of all components at a time
            levels.append(np.asarray(frontier, dtype=np.int64))
            counts = first[frontier + 1] - first[frontier]
            bonds = np.repeat(first[frontier] - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
            bonds = bonds[~seen[j[bonds]]]
            frontier, where = np.unique(j[bonds], return_index=True)
            parent[frontier] = kept[bonds[where]]
            seen[frontier] = True
        return parent, levels


def bond_graph(atoms: Atoms, previous: BondGraph | None = None) -> BondGraph:
    """Bonds of a periodic or finite structure, from covalent radii.

    Metal–metal, metal–H and metal–C pairs are never bonds (carboxylate carbon comes within 2.9 Å of its metals), and
    H–H only for hydrogen that has no heavier neighbour.

    With the graph of the ``previous`` frame of a trajectory (same atoms, wrapped anyhow) its bonds last up to
    `HOLD` × the usual limit, and new ones form only below `FORM` × it, so that a vibration across the limit does not
    make a bond flicker; hydrogen changes its partner only for one that is closer by as much.

    Raises
    ------
    StructureError
        Positions or cell are not finite, the cell has no volume, or the previous frame has another number of atoms.
    """
    numbers: IntArray = np.asarray(atoms.numbers, dtype=np.int64)
    if previous is not None and previous.n_atoms != len(atoms):
        raise StructureError(
            f"The previous frame has {previous.n_atoms} atoms, this one {len(atoms)}.",
            todo="Pass a graph of the same atoms in the same order, or none.",
        )
    cutoffs = {}
    for a, b in combinations_with_replacement(sorted({int(z) for z in numbers}), 2):
        limit = _longest_bond(a, b) * (1.0 if previous is None else HOLD)
        if limit > 0.0:
            cutoffs[(a, b)] = limit
    i, j, shift, distance = _pairs(atoms, cutoffs)
    old = np.zeros(len(i), dtype=bool) if previous is None else _bonded_before(previous, i, j, distance)
    if previous is not None:
        keep = old | (distance < FORM * bond_limits(numbers[i], numbers[j]))
        i, j, shift, distance, old = i[keep], j[keep], shift[keep], distance[keep], old[keep]
    keep = _nearest_of_hydrogen(numbers, i, j, np.where(old, distance / HOLD, distance))
    i, j, shift, distance, old = i[keep], j[keep], shift[keep], distance[keep], old[keep]
    i, j = np.concatenate((i, j)), np.concatenate((j, i))
    shift, distance, old = (
        np.concatenate((shift, -shift)),
        np.concatenate((distance, distance)),
        np.concatenate((old, old)),
    )
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], j, i))
    i, j, shift, distance, old = i[order], j[order], shift[order], distance[order], old[order]
    keep = old | _without_contacts(numbers, i, j, shift, distance)
    return BondGraph(len(atoms), i[keep], j[keep], shift[keep], distance[keep])


def _bonded_before(previous: BondGraph, i: IntArray, j: IntArray, distance: FloatArray) -> BoolArray:
    """Which pairs (i ≤ j) were bonded in the previous frame. Atoms may have been wrapped since, so images do not count:
    of a pair that had k bonds the k shortest contacts are taken."""
    n = previous.n_atoms
    before, count = np.unique((previous.i * n + previous.j)[previous.once], return_counts=True)
    pair = i * n + j
    order = np.lexsort((distance, pair))
    first = np.r_[True, pair[order][1:] != pair[order][:-1]] if len(pair) else np.zeros(0, dtype=bool)
    rank = np.arange(len(pair)) - np.maximum.accumulate(np.where(first, np.arange(len(pair)), 0))
    place = np.minimum(np.searchsorted(before, pair[order]), max(len(before) - 1, 0))
    bonded = np.zeros(len(pair), dtype=bool)
    if len(before) and len(pair):
        bonded[order] = (before[place] == pair[order]) & (rank < count[place])
    return bonded


def check_distances(atoms: Atoms, *, factor: float = 0.55) -> None:
    """Refuses a structure with overlapping atoms: closer than ``factor`` × the sum of their covalent radii.

    Raises
    ------
    StructureError
        Names the closest pairs with indices, elements, distance and limit.
    """
    elements = sorted({int(z) for z in atoms.numbers})
    cutoffs = {
        (a, b): factor * float(COVALENT_RADII[a] + COVALENT_RADII[b])
        for a, b in combinations_with_replacement(elements, 2)
    }
    i, j, _, distance = _pairs(atoms, cutoffs)
    if len(i) == 0:
        return
    numbers = atoms.numbers
    worst = np.argsort(distance, kind="stable")[:5]
    pairs = "; ".join(
        f"{chemical_symbols[numbers[a]]}{a}–{chemical_symbols[numbers[b]]}{b} {d:.3f} Å "
        f"(limit {factor * (COVALENT_RADII[numbers[a]] + COVALENT_RADII[numbers[b]]):.3f} Å)"
        for a, b, d in zip(i[worst].tolist(), j[worst].tolist(), distance[worst].tolist(), strict=True)
    )
    more = f" and {len(i) - len(worst)} more" if len(i) > len(worst) else ""
    raise StructureError(
        f"{len(i)} pair{'s' if len(i) > 1 else ''} of atoms overlap: {pairs}{more}.",
        where=f"{atoms.get_chemical_formula(mode='hill')}, {len(atoms)} atoms, indices from 0",
        todo="Remove duplicate atoms (often partial occupancies of a CIF file) and check the cell and its units (Å).",
    )


def bond_limits(first: IntArray, second: IntArray) -> FloatArray:
    """(k,) Å: longest bond between atoms of the given atomic numbers (k,); 0 where there is never a bond."""
    elements, place = np.unique(np.concatenate((first, second)), return_inverse=True)
    table = np.array([_longest_bond(int(a), int(b)) for a in elements for b in elements], dtype=np.float64)
    a, b = np.split(place.reshape(-1), 2)
    return np.asarray(table[a * len(elements) + b])


def _longest_bond(a: int, b: int) -> float:
    """Threshold in Å for a pair of atomic numbers; 0 where there is never a bond."""
    metals = int(is_metal(np.array([a, b])).sum())
    radii = float(COVALENT_RADII[a] + COVALENT_RADII[b])
    if metals == 2 or (metals == 1 and {a, b} & {1, 6}):
        return 0.0
    if metals == 1:
        return METAL_FACTOR * radii
    if 1 in (a, b):
        return HYDROGEN_FACTOR * radii
    if a in _SMALL_NEGATIVE and b in _SMALL_NEGATIVE:
        return PEROXIDE_FACTOR * radii
    return COVALENT_FACTOR * radii


def _pairs(atoms: Atoms, cutoffs: dict[tuple[int, int], float]) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Each pair within the cutoff of its elements once (i ≤ j), with integer cell shifts and distances."""
    from matscipy.neighbours import neighbour_list

    positions, cell, pbc = atoms.get_positions(), np.array(atoms.cell.array), np.array(atoms.pbc)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise StructureError(
            f"The positions of {len(bad)} atoms (first: {bad[:5].tolist()}) or the cell are not finite numbers.",
            where=f"{len(atoms)} atoms",
            todo="Take the structure from before the simulation blew up, or repair the file.",
        )
    if (pbc.any() and abs(np.linalg.det(atoms.cell.complete().array)) < 1e-6) or not cell[pbc].any(axis=1).all():
        raise StructureError(
            f"The cell is periodic but has no volume: {cell.tolist()}.",
            where=f"{len(atoms)} atoms, pbc {pbc.tolist()}",
            todo="Give the three cell vectors, or set pbc to false for a molecule.",
        )
    if len(atoms) == 0 or not cutoffs:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros((0, 3), dtype=np.int64), np.zeros(0)
    origin = np.zeros(3)
    if not pbc.any():
        # A box around the atoms: the neighbour search bins by the cell, and atoms outside it would be slow.
        origin = positions.min(axis=0) - 1.0
        cell = np.diag(np.ptp(positions, axis=0) + 2.0)
    else:
        cell = atoms.cell.complete().array
    i, j, d, s = neighbour_list(
        "ijdS",
        positions=positions,
        cell=cell,
        pbc=pbc,
        numbers=np.asarray(atoms.numbers, dtype=np.int32),
        cutoff=cutoffs,
        cell_origin=origin,
    )
    i, j, s = i.astype(np.int64), j.astype(np.int64), s.astype(np.int64)
    # An atom and its own image: of the two opposite shifts the lexically positive one.
    positive = (s[:, 0] > 0) | ((s[:, 0] == 0) & ((s[:, 1] > 0) | ((s[:, 1] == 0) & (s[:, 2] > 0))))
    once = (i < j) | ((i == j) & positive)
    return i[once], j[once], s[once], np.asarray(d, dtype=np.float64)[once]


def _nearest_of_hydrogen(numbers: IntArray, i: IntArray, j: IntArray, distance: FloatArray) -> BoolArray:
    """Mask of pairs after each hydrogen has kept only its nearest partner, heavy atoms before other hydrogens."""
    h_i, h_j = numbers[i] == 1, numbers[j] == 1
    keep: BoolArray = ~(h_i | h_j)
    to_heavy = np.flatnonzero(h_i ^ h_j)
    hydrogen = np.where(h_i, i, j)[to_heavy]
    order = np.lexsort((to_heavy, distance[to_heavy], hydrogen))
    best = order[np.r_[True, hydrogen[order][1:] != hydrogen[order][:-1]]] if len(order) else order
    keep[to_heavy[best]] = True
    free = numbers == 1
    free[hydrogen] = False
    for pair in sorted(np.flatnonzero(h_i & h_j).tolist(), key=lambda p: (distance[p], p)):
        if free[i[pair]] and free[j[pair]] and i[pair] != j[pair]:
            keep[pair] = True
            free[i[pair]] = free[j[pair]] = False
    return keep


def _without_contacts(numbers: IntArray, i: IntArray, j: IntArray, shift: IntArray, distance: FloatArray) -> BoolArray:
    """Mask of pairs without stretched ones that share a non-metal neighbour closer to both of them (C–C–C, V–O–P)."""
    keep = np.ones(len(i), dtype=bool)
    radii = COVALENT_RADII[numbers]
    organic = ~is_metal(numbers) & (numbers != 1)
    heavy = (numbers[i] != 1) & (numbers[j] != 1)
    stretched = np.flatnonzero(heavy & (distance > STRETCHED * (radii[i] + radii[j])))
    if len(stretched) == 0:
        return keep
    first = np.searchsorted(i, np.arange(len(numbers) + 1))
    for pair in stretched.tolist():
        a, b, limit = int(i[pair]), int(j[pair]), distance[pair]
        of_a, of_b = slice(first[a], first[a + 1]), slice(first[b], first[b + 1])
        reach_b = {
            (k, *(image + shift[pair]).tolist())
            for k, image, d in zip(j[of_b].tolist(), shift[of_b], distance[of_b], strict=True)
            if d < limit and organic[k]
        }
        keep[pair] = not any(
            (k, *image) in reach_b
            for k, image, d in zip(j[of_a].tolist(), shift[of_a].tolist(), distance[of_a], strict=True)
            if d < limit and organic[k]
        )
    return keep
