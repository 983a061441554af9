"""Finds fragments that are the same up to rotation, translation, reflection and order of atoms.

Two structures are compared by their sorted interatomic distances, per pair of species. Sorted lists are compared
element by element within a tolerance: there are no bins, so rounding cannot move a pair over an edge. Mirror images
have the same distances and count as the same, which is right for energies and forces of a label. Different structures
with equal distance lists (homometric sets) exist in principle; fragments with thermal noise do not meet them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from scipy.spatial.distance import pdist

from clusterflow.core.data import BoolArray, FloatArray, Fragment, IntArray
from clusterflow.core.frames import digest

DUPLICATE = "the same fragment is labelled already"
"""Why a duplicate is refused, for the journal."""
TOLERANCE = 0.01
"""Å: how far any of the sorted distances may be apart in two equal fragments."""


@dataclass(frozen=True)
class Fingerprint:
    """Invariants of a finite structure; `str` gives the exact hash of its composition, a prefilter.

    ``species`` (n,) an integer per atom, ``positions`` (n, 3) in Å.
    """

    species: IntArray
    positions: FloatArray

    def __str__(self) -> str:
        return self.composition

    @cached_property
    def composition(self) -> str:
        """Hash of the species and how many there are of each."""
        kinds, counts = np.unique(self.species, return_counts=True)
        return digest(kinds.astype("<i8").tobytes(), counts.astype("<i8").tobytes())

    @cached_property
    def size(self) -> float:
        """Root mean square of all distances in Å. Of equal fragments it differs by no more than the distances do."""
        n = len(self.positions)
        spread = float(((self.positions - self.positions.mean(axis=0)) ** 2).sum())
        return float(np.sqrt(2.0 * spread / max(n - 1, 1)))

    @cached_property
    def distances(self) -> FloatArray:
        """All pair distances in Å, first by (unordered) pair of species, then by length."""
        _, rank = np.unique(self.species, return_inverse=True)
        i, j = np.triu_indices(len(self.species), 1)
        low, high = np.minimum(rank[i], rank[j]), np.maximum(rank[i], rank[j])
        distance = pdist(self.positions)
        return np.asarray(distance[np.lexsort((distance, high, low))], dtype=np.float64)

    def matches(self, other: Fingerprint, tolerance: float = TOLERANCE) -> bool:
        """Same composition, and no sorted distance differs by more than the tolerance in Å."""
        if self.composition != other.composition or abs(self.size - other.size) > tolerance + 1e-9:
            return False
        return bool(np.abs(self.distances - other.distances).max(initial=0.0) <= tolerance)


def fingerprint(atoms: Atoms, core: BoolArray | None = None) -> Fingerprint:
    """Invariant under rotation, reflection, translation and permutation; for finite structures.

    With ``core`` (n,), core atoms count as other species than the rest.
    """
    species = np.asarray(atoms.numbers, dtype=np.int64) * 2
    if core is not None:
        species = species + core
    return Fingerprint(species, np.asarray(atoms.positions, dtype=np.float64))


def same_fragment(a: Fragment, b: Fragment, tolerance: float = TOLERANCE) -> bool:
    """Whether two fragments have the same geometry (within the tolerance in Å), the same core, charge and spin."""
    return _same(a, _of(a), b, _of(b), tolerance)


def drop_duplicates(
    fragments: Sequence[Fragment], known: Sequence[Fragment] = (), tolerance: float = TOLERANCE
) -> list[int]:
    """Indices of the fragments to keep, ascending: not the same as an earlier one, nor as a known one."""
    seen: dict[str, list[tuple[Fragment, Fingerprint]]] = {}
    for fragment in known:
        print_ = _of(fragment)
        seen.setdefault(print_.composition, []).append((fragment, print_))
    kept = []
    for index, fragment in enumerate(fragments):
        print_ = _of(fragment)
        rivals = seen.setdefault(print_.composition, [])
        if any(_same(fragment, print_, other, its, tolerance) for other, its in rivals):
            continue
        rivals.append((fragment, print_))
        kept.append(index)
    return kept


def _of(fragment: Fragment) -> Fingerprint:
    return fingerprint(fragment.atoms, fragment.core)


def _same(a: Fragment, of_a: Fingerprint, b: Fragment, of_b: Fingerprint, tolerance: float) -> bool:
    return a.charge == b.charge and a.spin == b.spin and of_a.matches(of_b, tolerance)
